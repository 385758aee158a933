FROM nginx:1.27
MAINTAINER Somebody <somebody@example.com>
RUN rm /etc/nginx/conf.d/*.conf
ADD site.tar.gz /usr/share/nginx/html
ADD --chown=nginx:nginx conf/ /etc/nginx/
EXPOSE 80 443
CMD ["nginx", "-g", "daemon off;"]
