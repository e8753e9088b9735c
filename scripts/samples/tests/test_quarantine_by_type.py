import pytest

MESSAGE = """\
Subject: report
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

Look at this.
--b
Content-Type: {type}
Content-Disposition: attachment; filename="{name}"

...
--b--
"""


def message(name="report.pdf", type="application/pdf"):
    return MESSAGE.format(name=name, type=type)


@pytest.mark.parametrize("name", ["report.docm", "Report.XLSM", "disc.iso."])
def test_some_types_are_held(rule, name):
    run = rule.message(message=message(name))
    assert run.mail.via == "quarantine"
    assert run.results.get("type").value == "fail"
    assert run.log[0].fields["file"] == name


def test_by_content_type_as_well(rule):
    run = rule.configure(handoff="held").message(message=message(type="application/x-msdownload"))
    assert run.mail.via == "held"


def test_other_mail_goes_its_way(rule):
    run = rule.send(message=message())
    assert run.mail.via is None
    assert list(run.delivered) == ["default"]


def test_the_whole_mail_waits(rule):
    run = rule.send(message=message("x.lnk"), to=["ann@example.com", "bob@example.com"])
    assert run.delivered["quarantine"].recipients == ["ann@example.com", "bob@example.com"]
    assert "default" not in run.delivered
