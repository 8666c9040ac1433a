# An application as people build it who have never looked at its layers: each
# step is there for what it does to the layers below.
FROM localhost/e2e-base:12
LABEL org.opencontainers.image.title="e2e" com.example.note="quotes \" and <angle>"
ENV LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y nginx libcap2-bin
RUN apt-get install -y git
RUN apt-get install -y python3
# Trees that are repeated for a bit of their mode and for their owner.
RUN chmod -R g+w /usr/lib/git-core /usr/lib/python3*
RUN chown -R www-data:www-data /usr/share/nginx /usr/share/perl5 /usr/share/git-core
# A link group whose first name goes in a later layer.
RUN mkdir /l && echo one >/l/a && ln /l/a /l/b && ln /l/a /l/c
RUN rm /l/a
RUN setcap cap_net_bind_service+ep /usr/sbin/nginx && chmod u+s /usr/bin/git
# Files that are written again, removed, and removed and written again.
RUN mkdir -p /opt/app/data && head -c 6000000 /dev/urandom >/opt/app/data/blob && echo 1 >/opt/app/version && mkfifo /opt/app/pipe
RUN echo 2 >/opt/app/version && printf x >>/opt/app/data/blob && sed -i 's/^#.*//' /etc/nginx/nginx.conf
RUN rm -rf /usr/share/doc/git /usr/share/perl5/Git /opt/app/data && mkdir /opt/app/data && echo new >/opt/app/data/new
# A directory becomes a file and a directory again; a symlink is turned round.
RUN rm -rf /etc/nginx/sites-enabled && echo none >/etc/nginx/sites-enabled && ln -s data /opt/app/current
RUN rm /etc/nginx/sites-enabled && mkdir /etc/nginx/sites-enabled && ln -s ../sites-available/default /etc/nginx/sites-enabled/site && ln -sfn /l /opt/app/current
RUN printf '#!/bin/sh\nset -e\ncat /l/b /l/c /opt/app/version /opt/app/data/new\ngetcap /usr/sbin/nginx\ngit --version\npython3 -c "import json, ssl; print(json.dumps(ssl.OPENSSL_VERSION))"\nnginx -v\nid -un\nprintf "%%s\\n" "$@"\n' >/usr/local/bin/entry && chmod 755 /usr/local/bin/entry
EXPOSE 8080
VOLUME /opt/app/volume
WORKDIR /opt/app
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["/usr/local/bin/entry", "health"]
USER www-data
ENTRYPOINT ["/usr/local/bin/entry"]
CMD ["hello", "two words"]
