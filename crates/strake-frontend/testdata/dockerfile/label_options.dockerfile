FROM service:1 AS a
LABEL x=1
FROM a
LABEL y=2
