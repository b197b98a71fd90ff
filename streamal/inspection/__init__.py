"""Looking at a deployment from outside: status, report, top, verify."""
