def test_a_virus_is_refused_by_its_name(rule):
    rule.clamav.viruses[b"EVIL"] = "Test.Evil-1"
    run = rule.message(message="Subject: x\n\nEVIL\n")
    assert run.reply == "554 5.7.1 Virus found: Test.Evil-1"
    assert str(run.results) == "clamav=fail virus=Test.Evil-1"
    assert run.log[0].fields["name"] == "Test.Evil-1"


def test_clean_mail_goes_on(rule):
    run = rule.message(message="Subject: x\n\nfine\n")
    assert run.accepted
    assert str(run.results) == "clamav=pass"


def test_without_a_scanner_mail_is_deferred(rule):
    rule.clamav.viruses = None
    run = rule.message(message="Subject: x\n\nfine\n", fails=True)
    assert run.reply.startswith("451 4.3.0 ")
    assert "no scanner can be reached" in run.failures[0]
