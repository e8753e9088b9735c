"""Rules that ask who has an account, in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpproxy.testing.author import RuleUnderTest, World

RULES = {
    "py": """
from smtpproxy.script import deny, users

def on_rcpt(mail, rcpt):
    if not users["staff"].exists(rcpt):
        return deny("No such user", code="550 5.1.1")

def on_mail(mail, sender):
    if str(sender) not in users["staff"].addresses(mail.client.login or ""):
        return deny("Not yours")
""",
    "lua": """
function on_rcpt(mail, rcpt)
  if not users.staff.exists(rcpt) then
    return deny("No such user", {code = "550 5.1.1"})
  end
end

function on_mail(mail, sender)
  for _, address in ipairs(users["staff"].addresses(mail.client.login or "")) do
    if address == tostring(sender) then return end
  end
  return deny("Not yours")
end
""",
}
UNKNOWN = {
    "py": 'from smtpproxy.script import users\ndef on_rcpt(mail, rcpt):\n    users["staf"].exists(rcpt)\n',
    "lua": "function on_rcpt(mail, rcpt)\n  users.staf.exists(rcpt)\nend\n",
}


@pytest.fixture(params=["py", "lua"])
def rule(request: pytest.FixtureRequest, tmp_path: Path) -> RuleUnderTest:
    sources = UNKNOWN if "unknown" in request.node.name else RULES
    file = tmp_path / f"10-people.{request.param}"
    file.write_text(sources[request.param])
    tmp_path.chmod(0o755)
    found = RuleUnderTest(World(tmp_path), [file])
    found.users["staff"] = {"ann@example.com": ["sales@example.com"]}
    return found


def test_only_those_who_have_an_account_get_mail(rule: RuleUnderTest) -> None:
    assert rule.rcpt(to="ann@example.com").verdict is None
    assert rule.rcpt(to="sales@example.com").verdict is None
    assert rule.rcpt(to="bob@example.com").reply == "550 5.1.1 No such user"


def test_the_addresses_of_a_login(rule: RuleUnderTest) -> None:
    assert rule.mail(sender="sales@example.com", login="ann@example.com").verdict is None
    assert rule.mail(sender="bob@example.com", login="ann@example.com").reply == "550 5.7.1 Not yours"
    assert rule.mail(sender="ann@example.com").reply == "550 5.7.1 Not yours"


def test_a_table_that_is_unknown_is_a_failure_with_a_suggestion(rule: RuleUnderTest) -> None:
    (failure,) = rule.rcpt(to="ann@example.com", fails=True).failures
    assert 'there is no [users.staf]; did you mean "staff"?' in failure
