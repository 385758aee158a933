FROM service:1
CMD ["x"]
ENTRYPOINT ["/other"]
