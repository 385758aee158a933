FROM scratch
RUN a \  	
  b
RUN c \\
RUN d
