2,9c\
# The options are in /etc/ptescope/daemon.toml. To change this unit: systemctl edit ptescope.
s|/opt/ptescope/bin/|/usr/bin/|
s|^# The first start compiles code\.|# Where installation could not compile, the first start does.|
