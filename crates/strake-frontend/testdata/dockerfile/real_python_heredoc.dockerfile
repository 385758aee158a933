FROM python:3.12-slim
RUN <<EOF
set -eu
apt-get update
apt-get install -y curl
EOF
RUN <<-PY python3
	import os
	print(os.environ["HOME"])
	PY
RUN <<SCRIPT
#!/usr/bin/env python3
print("hello")
SCRIPT
COPY <<one.txt <<"two.txt" /etc/app/
home is ${HOME:-/root} and \$literal
one.txt
$kept as it is
two.txt
