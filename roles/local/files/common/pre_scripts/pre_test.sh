#!/usr/bin/env bash
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# An example of a pre script: it runs in the run directory, before the model, with the arguments that the context gives it.
printf 'Pre-Script test called %s\n' "$*"
