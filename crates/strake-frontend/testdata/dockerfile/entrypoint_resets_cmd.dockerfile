FROM service:1
ENTRYPOINT ["/other"]
