"""What all tests share. Oracles that ask Python's own zoneinfo must read the same zone files as Camp: those of the package tzdata."""

import zoneinfo

zoneinfo.reset_tzpath(to=())
