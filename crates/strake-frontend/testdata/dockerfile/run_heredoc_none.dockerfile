FROM debian:12
RUN cat <<<word
RUN echo "<<EOF"
RUN a<<EOF
RUN echo $((1 << 2))
