FROM scratch
COYP a b
INSTALL x
&& make
ruN x
