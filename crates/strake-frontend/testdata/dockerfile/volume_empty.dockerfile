FROM scratch
VOLUME $U
VOLUME [""]
