#!/usr/bin/env bash
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Prints its arguments: to see in pre.log or post.log that scripts run, in which order and with what.
printf '%s\n' "$*"
