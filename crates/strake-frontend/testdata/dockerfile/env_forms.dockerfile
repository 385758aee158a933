FROM scratch
ENV A=1 B="two words" C=three\ words D='$A' E=$A
ENV F=$A$B
ENV G old  form  $A
ENV A=2
