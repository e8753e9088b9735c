def test_nobody_else_is_there(rule):
    rule.configure(users=["postmaster@", "alice@example.com"])
    assert rule.rcpt(to="eve@example.com").reply == "550 5.1.1 No such user"
    assert rule.rcpt(to="alice@example.com").accepted
    assert rule.rcpt(to="postmaster@example.com").accepted


def test_other_domains_are_none_of_its_business(rule):
    assert rule.rcpt(to="eve@elsewhere.example").accepted
    assert rule.rcpt(to="postmaster").accepted


def test_users_may_stand_in_a_file(rule, tmp_path):
    users = tmp_path / "users"
    users.write_text("alice@example.com  # accounting\n\n# bob@example.com has left\n")
    rule.configure(users=["postmaster@", f"file:{users}"])
    assert rule.rcpt(to="alice@example.com").accepted
    assert rule.rcpt(to="postmaster@example.com").accepted
    assert rule.rcpt(to="bob@example.com").refused


def test_without_its_file_nobody_is_refused_for_good(rule, tmp_path):
    run = rule.configure(users=[f"file:{tmp_path / 'none'}"]).rcpt(to="alice@example.com", fails=True)
    assert run.reply.startswith("451 ")
