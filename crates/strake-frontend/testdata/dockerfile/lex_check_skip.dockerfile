# check=skip=JSONArgsRecommended,MaintainerDeprecated
FROM scratch
MAINTAINER me
CMD a
ENV A b
