# SPDX-License-Identifier: GPL-3.0-or-later
# Aliases; the commands themselves are dev/demo and dev/test.
.PHONY: demo test check bench clean

demo:
	@dev/demo

# Everything. CI=true or MAD_TEST_INSTALL=1 also brings the real parts by apt.
test:
	@dev/test

# The part without root and services.
check:
	@dev/test --check

bench:
	@dev/test --bench

clean:
	rm -rf .venv .dev dist build
