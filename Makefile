# SPDX-License-Identifier: GPL-3.0-or-later
# Aliases; the commands themselves are dev/demo, dev/demo-training and dev/test.
.PHONY: demo demo-training test check bench bench-training clean

demo:
	@dev/demo

# The training engine: two models trained, killed, resumed to the same bytes; one served.
demo-training:
	@dev/demo-training

# Everything. CI=true or MAD_TEST_INSTALL=1 also brings the real parts by apt.
test:
	@dev/test

# The part without root and services.
check:
	@dev/test --check

bench:
	@dev/test --bench
	@dev/demo-training --bench --quick

# The training engine's goals: number, value, limit, verdict.
bench-training:
	@dev/demo-training --bench

clean:
	rm -rf .venv .dev dist build
