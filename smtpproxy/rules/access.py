"""Allow and deny lists of client networks."""

from ipaddress import ip_address, ip_network

from smtpproxy.script import deny, settings

order = 10


class Settings:
    deny_networks: list[str] = []
    """Clients in these networks are refused."""


NETWORKS = [ip_network(text) for text in settings.deny_networks]


def on_connect(client):
    if any(ip_address(client.address) in network for network in NETWORKS):
        return deny("Your address is not welcome here", code="554 5.7.1")
