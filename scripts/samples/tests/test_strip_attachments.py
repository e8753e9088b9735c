MESSAGE = """\
Subject: hello
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

Look at this.
--b
Content-Type: application/octet-stream
Content-Disposition: attachment; filename*=utf-8''gr%C3%BC%C3%9Fe.EXE
Content-Transfer-Encoding: base64

TVqQAAMAAAA=
--b
Content-Type: application/pdf; name=a.pdf

PDF
--b--
"""
SIGNED = """\
Content-Type: multipart/signed; boundary=s

--s
Content-Type: application/x-dosexec; name=a.exe

MZ
--s
Content-Type: application/pgp-signature

sig
--s--
"""


def test_programs_are_taken_out(rule):
    run = rule.message(message=MESSAGE)
    assert run.accepted
    note, pdf = run.mail.attachments
    assert note.text == "The attachment grüße.EXE was removed: programs are not accepted by mail."
    assert (note.filename, note.content_type, pdf.filename) == ("removed.txt", "text/plain", "a.pdf")
    assert run.mail.header["X-Removed"] == "grüße.EXE"
    assert b"TVqQ" not in run.message
    assert run.message.endswith(b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nPDF\r\n--b--\r\n")


def test_other_mail_goes_as_it_is(rule):
    assert rule.message(message=MESSAGE.replace("EXE", "txt")).diff == ""


def test_a_signed_program_is_refused(rule):
    assert rule.message(message=SIGNED).reply == "550 5.7.1 Programs are not accepted: a.exe"
