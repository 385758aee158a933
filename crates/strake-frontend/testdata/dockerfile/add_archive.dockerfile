FROM scratch
ADD a.tar.gz /x
ADD --unpack=false b.tar /y
ADD --unpack c /z
