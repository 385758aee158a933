FROM debian:12
CMD ["a", "b\"c"]
ENTRYPOINT ["/e"]
ENTRYPOINT /e $A
CMD c
CMD []
