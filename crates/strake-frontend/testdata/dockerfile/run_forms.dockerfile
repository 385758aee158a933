FROM debian:12
RUN echo "$HOME" \
  && true
RUN ["echo", "$HOME"]
RUN ["echo"] # junk
RUN   [ -f x ]  
