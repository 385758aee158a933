FROM scratch
ENV P=/a/b.tar.gz
ENV A=${P##*/} B=${P%%.*} C=${P#/a} D=${P%.gz} E=${P/a/x} F=${P//a/x} G=${U:-d} H=${P:+s} I=${U-d} J=${U+s}
