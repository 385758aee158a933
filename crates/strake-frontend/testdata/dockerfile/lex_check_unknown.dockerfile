# check=loud=yes
FROM scratch
