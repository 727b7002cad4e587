"""Test Anything Protocol: ok() per fact, done() at the end."""
import sys

_count = 0
_failures = 0


def ok(condition, name, detail=None):
    """One test point; `detail` is shown when it fails, to whoever looks at standard error. Gives the condition back."""
    global _count, _failures
    _count += 1
    print(f"{'ok' if condition else 'not ok'} {_count} - {name}")
    if not condition:
        _failures += 1
        for line in str(detail).splitlines() if detail is not None else []:
            print(f"#   {line}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    return condition


def equal(got, want, name):
    return ok(got == want, name, f"got  {got!r}\nwant {want!r}")


def contains(text, part, name):
    return ok(part in text, name, f"no {part!r} in:\n{text}")


def skip(why):
    """One test point that could not be made here."""
    global _count
    _count += 1
    print(f"ok {_count} # SKIP {why}")


def skip_all(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


def note(text):
    for line in str(text).splitlines():
        print(f"# {line}")
    sys.stdout.flush()


def done():
    print(f"1..{_count}")
    sys.exit(1 if _failures else 0)
