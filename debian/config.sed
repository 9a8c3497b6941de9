1i\
# Options of the ptescope daemon. Flags in /etc/default/ptescope win: OPTIONS="--top 50".\
# After a change: systemctl restart ptescope\

s|^# record-dir = .*|# record-dir = "/var/lib/ptescope"|
s|^# log-file = .*|# log-file = "/var/log/ptescope/daemon.log"|
s|^# socket = .*|# socket = "/run/ptescope/daemon.sock"|
