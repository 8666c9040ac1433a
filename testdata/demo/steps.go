package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// appID is the user and group that the shop runs as.
const appID = 999

// netBindService is the value of security.capability that setcap
// cap_net_bind_service+ep writes: a vfs_cap_data of version 2 with the
// effective flag.
var netBindService = string([]byte{
	0x01, 0x00, 0x00, 0x02,
	0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
})

// dockerfile is how the image was built.
var dockerfile = []step{
	{"/bin/sh -c #(nop) ADD file:7cf1cdb0a2f5e4bb6f0a2b46cbe0b5ef5b1f7f4a4a5ab8c5f7c1ac1e27d0c3b1 in / ", debian},
	{`/bin/sh -c #(nop)  CMD ["bash"]`, nil},
	{`/bin/sh -c #(nop)  LABEL maintainer=Shop Team <shop@example.com> org.opencontainers.image.title=shop`, nil},
	{"/bin/sh -c #(nop)  ENV LANG=C.UTF-8 NODE_ENV=production SHOP_HOME=/srv/shop", nil},
	{"/bin/sh -c apt-get update && apt-get install -y nginx-light curl ca-certificates python3 python3-pip nodejs", installPackages},
	{"/bin/sh -c apt-get install -y build-essential git && apt-get clean", installCompiler},
	{"/bin/sh -c groupadd -r app && useradd -r -g app -d /srv/shop app && chsh -s /bin/bash root", addUser},
	{"/bin/sh -c #(nop) COPY file:0b6a9a4a6bd0a4a4f7a6a51f2e21cf2b1d8a4b4f9d6b8f7e6c5d4b3a29181706 in /tmp/requirements.txt ", copyRequirements},
	{"/bin/sh -c pip install -r /tmp/requirements.txt", pipInstall},
	{"/bin/sh -c #(nop) COPY dir:5e0f9d6c7b8a99a8b7c6d5e4f3021100ffeeddccbbaa99887766554433221100 in /srv/shop ", copyShop},
	{"/bin/sh -c cd /srv/shop && npm ci && npm run build", npmInstall},
	{"/bin/sh -c chmod g+w /srv/shop/data/catalogue.db", chmodCatalogue},
	{"/bin/sh -c chown -R app:app /srv/shop", chownShop},
	{"/bin/sh -c make -C /srv/shop/native install && setcap cap_net_bind_service+ep /usr/local/bin/shopd", installServer},
	{"/bin/sh -c mkdir -p /srv/shop/public/logo && cd /srv/shop/public/logo && cp /tmp/logo.png a.png && ln a.png b.png && ln a.png c.png", linkLogos},
	{"/bin/sh -c rm /srv/shop/public/logo/a.png && rm -rf /srv/shop/native /srv/shop/.git /tmp/requirements.txt", removeSources},
	{"/bin/sh -c apt-get purge -y build-essential && apt-get autoremove -y && rm -rf /usr/lib/gcc /usr/include", purgeCompiler},
	{"/bin/sh -c rm -rf /etc/nginx/sites-enabled && mkdir /etc/nginx/sites-enabled && ln -s ../sites-available/shop /etc/nginx/sites-enabled/shop", configureNginx},
	{"/bin/sh -c rm -rf /etc/shop && echo moved > /etc/shop && ln -sfn releases/2 /srv/shop/current", moveConfig},
	{"/bin/sh -c rm /etc/shop && mkdir /etc/shop && cp /srv/shop/shop.conf /etc/shop", restoreConfig},
	{"/bin/sh -c true", nothing},
	{"/bin/sh -c #(nop)  EXPOSE 8080", nil},
	{"/bin/sh -c ldconfig -p > /dev/null", nothing},
	{"/bin/sh -c #(nop)  VOLUME [/srv/shop/uploads]", nil},
	{"/bin/sh -c #(nop)  STOPSIGNAL SIGQUIT", nil},
	{`/bin/sh -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "curl -fsS http://127.0.0.1:8080/health || exit 1"] "30s" "5s" "20s" "2s" '\x03'}`, nil},
	{"/bin/sh -c #(nop)  USER app", nil},
	{"/bin/sh -c #(nop) WORKDIR /srv/shop", nil},
	{`/bin/sh -c #(nop)  ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh" "shopd"]`, nil},
	{`/bin/sh -c #(nop)  CMD ["--config" "/etc/shop/shop.conf"]`, nil},
}

// pkg is a Debian package: its programs and libraries, with their sizes.
type pkg struct {
	name, version string
	files         map[string]int
}

var basePackages = []pkg{
	{"base-files", "12.4+deb12u5", nil},
	{"base-passwd", "3.6.1", map[string]int{"usr/sbin/update-passwd": 35_000}},
	{"bash", "5.2.15-2+b2", map[string]int{"usr/bin/bash": 1_265_000}},
	{"coreutils", "9.1-1", map[string]int{
		"usr/bin/cat": 44_000, "usr/bin/chmod": 64_000, "usr/bin/cp": 151_000, "usr/bin/ls": 151_000,
		"usr/bin/mv": 142_000, "usr/bin/sort": 114_000, "usr/bin/tail": 72_000, "usr/bin/true": 43_000,
	}},
	{"dash", "0.5.12-2", map[string]int{"usr/bin/dash": 126_000}},
	{"debconf", "1.5.82", map[string]int{"usr/sbin/dpkg-preconfigure": 4_000}},
	{"dpkg", "1.21.22", map[string]int{"usr/bin/dpkg": 318_000, "usr/bin/dpkg-deb": 183_000}},
	{"libc-bin", "2.36-9+deb12u4", map[string]int{"usr/bin/ldd": 5_000, "usr/sbin/ldconfig": 1_020_000}},
	{"libc6", "2.36-9+deb12u4", map[string]int{
		"usr/lib/x86_64-linux-gnu/libc.so.6": 1_922_000, "usr/lib/x86_64-linux-gnu/libm.so.6": 907_000,
		"usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": 210_000,
	}},
	{"libssl3", "3.0.11-1~deb12u2", map[string]int{
		"usr/lib/x86_64-linux-gnu/libcrypto.so.3": 2_713_000, "usr/lib/x86_64-linux-gnu/libssl.so.3": 688_000,
	}},
	{"login", "1:4.13+dfsg1-1+b1", map[string]int{"usr/bin/newgrp": 49_000}},
	{"perl-base", "5.36.0-7+deb12u1", map[string]int{"usr/bin/perl": 1_900_000}},
	{"tzdata", "2024a-0+deb12u1", nil},
	{"util-linux", "2.38.1-5+b1", map[string]int{"usr/bin/findmnt": 69_000, "usr/bin/more": 60_000}},
}

var serverPackages = []pkg{
	{"ca-certificates", "20230311", map[string]int{"usr/sbin/update-ca-certificates": 5_000}},
	{"curl", "7.88.1-10+deb12u5", map[string]int{"usr/bin/curl": 281_000, "usr/lib/x86_64-linux-gnu/libcurl.so.4": 690_000}},
	{"nginx-light", "1.22.1-9", map[string]int{"usr/sbin/nginx": 1_200_000}},
	{"nodejs", "18.19.0+dfsg-6~deb12u1", map[string]int{"usr/bin/node": 91_000, "usr/lib/x86_64-linux-gnu/libnode.so.108": 9_500_000}},
	{"python3.11", "3.11.2-6", map[string]int{"usr/bin/python3.11": 5_700_000}},
	{"python3-pip", "23.0.1+dfsg-1", map[string]int{"usr/bin/pip3": 1_000}},
}

var compilerPackages = []pkg{
	{"gcc-12", "12.2.0-14", map[string]int{"usr/bin/gcc-12": 1_100_000, "usr/lib/gcc/x86_64-linux-gnu/12/cc1": 9_000_000}},
	{"git", "1:2.39.2-1.1", map[string]int{"usr/bin/git": 3_700_000}},
	{"libc6-dev", "2.36-9+deb12u4", map[string]int{"usr/lib/x86_64-linux-gnu/libc.a": 3_000_000, "usr/include/stdio.h": 31_000, "usr/include/stdlib.h": 36_000}},
	{"make", "4.3-4.1", map[string]int{"usr/bin/make": 240_000}},
}

// install unpacks packages with all that a package brings along.
func (l *layer) install(pkgs []pkg) {
	for _, p := range pkgs {
		var list []string
		put := func(name string, mode int64, content []byte) {
			l.file(name, mode, content)
			list = append(list, "/"+name)
		}
		for _, name := range slices.Sorted(maps.Keys(p.files)) {
			mode := int64(0o755)
			if strings.Contains(name, ".so") || strings.HasPrefix(name, "usr/include/") {
				mode = 0o644
			}
			put(name, mode, program(name, p.files[name]))
			if strings.Contains(name, "bin/") {
				page := "usr/share/man/man1/" + path.Base(name) + ".1.gz"
				put(page, 0o644, gzipped(page, 9_000))
			}
		}
		doc := "usr/share/doc/" + p.name
		put(doc+"/changelog.Debian.gz", 0o644, gzipped(doc, 60_000))
		put(doc+"/copyright", 0o644, text(doc+"/copyright", 14_000))
		put(doc+"/README.Debian", 0o644, text(doc+"/README", 5_000))
		for _, language := range []string{"de", "fr", "ja", "pt_BR"} {
			catalogue := "usr/share/locale/" + language + "/LC_MESSAGES/" + p.name + ".mo"
			put(catalogue, 0o644, text(catalogue, 30_000))
		}
		info := "var/lib/dpkg/info/" + p.name
		l.file(info+".list", 0o644, []byte("/.\n"+strings.Join(list, "\n")+"\n"))
		l.file(info+".md5sums", 0o644, text(info, 60*len(list)))
		l.status = append(l.status, fmt.Sprintf(
			"Package: %s\nStatus: install ok installed\nPriority: optional\nSection: admin\n"+
				"Maintainer: Debian Developers <debian-devel@lists.debian.org>\nArchitecture: amd64\nVersion: %s\nDescription: %s\n",
			p.name, p.version, text(p.name, 60)))
	}
	l.dpkgStatus()
}

// dpkgStatus rewrites the package database and keeps the one before.
func (l *layer) dpkgStatus() {
	if old, ok := l.names["var/lib/dpkg/status"]; ok {
		l.file("var/lib/dpkg/status-old", 0o644, old.content)
	}
	l.file("var/lib/dpkg/status", 0o644, []byte(strings.Join(l.status, "\n")))
}

// appendTo rewrites a file with more at its end.
func (l *layer) appendTo(name string, more []byte) {
	old, ok := l.names[name]
	if !ok {
		l.fail("appending to %q, which is not there", name)
		return
	}
	l.file(name, old.hdr.Mode, append(bytes.Clone(old.content), more...))
}

func debian(l *layer) {
	for _, name := range []string{"boot", "dev", "etc", "home", "mnt", "opt", "proc", "run", "srv", "sys", "usr", "var"} {
		l.dir(name, 0o755)
	}
	l.dir("root", 0o700)
	l.dir("tmp", 0o1777)
	l.dir("var/tmp", 0o1777)
	l.dir("run/lock", 0o1777)
	for _, name := range []string{"bin", "lib", "lib64", "sbin"} {
		l.dir("usr/"+name, 0o755)
		l.symlink(name, "usr/"+name)
	}
	l.symlink("var/run", "/run")
	l.symlink("var/lock", "/run/lock")

	l.file("usr/lib/os-release", 0o644, []byte("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"))
	l.symlink("etc/os-release", "../usr/lib/os-release")
	l.file("etc/debian_version", 0o644, []byte("12.5\n"))
	l.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"))
	l.file("etc/group", 0o644, []byte("root:x:0:\nshadow:x:42:\nwww-data:x:33:\nnogroup:x:65534:\n"))
	l.owner(0, 42)
	l.file("etc/shadow", 0o640, []byte("root:*:19764:0:99999:7:::\nwww-data:*:19764:0:99999:7:::\n"))
	l.owner(0, 0)
	l.file("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n"))

	l.install(basePackages)
	l.symlink("usr/bin/sh", "dash")
	l.file("usr/bin/su", 0o4755, program("su", 72_000))
	l.file("usr/bin/passwd", 0o4755, program("passwd", 68_000))
	l.owner(0, 42)
	l.file("usr/sbin/unix_chkpwd", 0o2755, program("unix_chkpwd", 39_000))
	l.owner(0, 8)
	l.dir("var/mail", 0o2775)
	l.owner(0, 0)
	l.link("usr/bin/perl5.36.0", "usr/bin/perl")
	l.file("usr/share/zoneinfo/Etc/UTC", 0o644, packed("UTC", 114))
	l.link("usr/share/zoneinfo/UTC", "usr/share/zoneinfo/Etc/UTC")
	l.link("usr/share/zoneinfo/Zulu", "usr/share/zoneinfo/Etc/UTC")
	l.symlink("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
	l.file("usr/share/locale/locale.alias", 0o644, text("locale.alias", 3_000))
	l.file("usr/share/common-licenses/GPL-3", 0o644, text("GPL-3", 35_147))
	l.symlink("usr/share/common-licenses/GPL", "GPL-3")
	l.file("usr/share/info/coreutils.info.gz", 0o644, gzipped("coreutils.info", 900_000))
	l.file("var/cache/debconf/templates.dat", 0o644, text("templates.dat", 90_000))
	l.file("var/cache/debconf/templates.dat-old", 0o644, text("templates.dat-old", 90_000))
	l.file("var/log/bootstrap.log", 0o644, text("bootstrap.log", 22_000))
	l.file("var/log/dpkg.log", 0o644, text("dpkg.log", 40_000))
	l.dir("var/lib/apt/lists", 0o755)
	l.dir("var/cache/apt/archives", 0o755)
}

func installPackages(l *layer) {
	lists := "var/lib/apt/lists/deb.debian.org_debian_dists_bookworm"
	l.file(lists+"_InRelease", 0o644, text("InRelease", 151_000))
	l.file(lists+"_main_binary-amd64_Packages", 0o644, aptList("main", 11_000_000))
	l.file(lists+"-updates_main_binary-amd64_Packages", 0o644, aptList("updates", 60_000))
	l.file("var/lib/apt/lists/lock", 0o640, nil)
	l.owner(42, 0)
	l.dir("var/lib/apt/lists/partial", 0o700)
	l.dir("var/cache/apt/archives/partial", 0o700)
	l.owner(0, 0)
	l.file("var/cache/apt/pkgcache.bin", 0o644, program("pkgcache.bin", 3_000_000))
	l.file("var/cache/apt/srcpkgcache.bin", 0o644, program("srcpkgcache.bin", 3_000_000))
	for _, p := range serverPackages {
		deb := "var/cache/apt/archives/" + p.name + "_" + strings.ReplaceAll(p.version, ":", "%3a") + "_amd64.deb"
		l.file(deb, 0o644, packed(deb, 450_000))
	}

	l.install(serverPackages)
	l.symlink("usr/bin/python3", "python3.11")
	l.file("etc/ssl/certs/ca-certificates.crt", 0o644, text("ca-certificates.crt", 213_000))
	l.symlink("etc/ssl/certs/ssl-cert.pem", "ca-certificates.crt")
	l.file("etc/nginx/nginx.conf", 0o644, text("nginx.conf", 1_450))
	l.file("etc/nginx/sites-available/default", 0o644, text("default", 2_400))
	l.symlink("etc/nginx/sites-enabled/default", "/etc/nginx/sites-available/default")
	l.file("etc/nginx/sites-enabled/metrics", 0o644, text("metrics", 300))
	l.owner(33, 4)
	l.dir("var/log/nginx", 0o755)
	l.owner(0, 0)
	l.symlink("var/log/nginx/access.log", "/dev/stdout")
	l.symlink("var/log/nginx/error.log", "/dev/stderr")
	l.file("usr/share/doc/nginx-light/LICENSE", 0o644, text("LICENSE", 1_400))
	l.symlink("usr/share/doc/nginx", "nginx-light")
	l.appendTo("var/log/dpkg.log", text("dpkg.log 2", 60_000))
	l.file("var/log/apt/history.log", 0o644, text("history.log", 9_000))
	l.owner(0, 4)
	l.file("var/log/apt/term.log", 0o640, text("term.log", 70_000))
}

func installCompiler(l *layer) {
	l.install(compilerPackages)
	l.symlink("usr/bin/gcc", "gcc-12")
	l.symlink("usr/bin/cc", "/etc/alternatives/cc")
	l.symlink("etc/alternatives/cc", "/usr/bin/gcc")
	l.file("usr/lib/git-core/git", 0o755, program("git-core", 1_900_000))
	for _, command := range []string{"add", "branch", "clone", "commit", "fetch", "log", "push", "status"} {
		l.link("usr/lib/git-core/git-"+command, "usr/lib/git-core/git")
	}
	for _, p := range serverPackages {
		l.whiteout("var/cache/apt/archives/" + p.name + "_" + p.version + "_amd64.deb")
	}
	l.appendTo("var/log/dpkg.log", text("dpkg.log 3", 50_000))
}

func addUser(l *layer) {
	l.appendTo("etc/passwd", []byte("app:x:999:999::/srv/shop:/bin/sh\n"))
	l.appendTo("etc/group", []byte("app:x:999:\n"))
	l.file("etc/passwd-", 0o644, []byte("root:x:0:0:root:/root:/bin/bash\n"))
	l.owner(0, 42)
	l.appendTo("etc/shadow", []byte("app:!:19764::::::\n"))
}

func copyRequirements(l *layer) {
	l.file("tmp/requirements.txt", 0o644, []byte("flask==2.3.3\nrequests==2.31.0\nnumpy==1.26.2\n"))
}

func pipInstall(l *layer) {
	packages := "usr/local/lib/python3.11/dist-packages/"
	for _, name := range []string{"flask", "jinja2", "requests", "werkzeug"} {
		for _, module := range []string{"__init__", "api", "helpers", "models", "utils"} {
			source := text(name+module, 24_000)
			l.file(packages+name+"/"+module+".py", 0o644, source)
			l.file(packages+name+"/__pycache__/"+module+".cpython-311.pyc", 0o644, append([]byte("\xa7\x0d\x0d\x0a"), source[:18_000]...))
		}
		l.file(packages+name+".dist-info/RECORD", 0o644, text(name+"RECORD", 2_000))
	}
	l.file(packages+"numpy/core/_multiarray_umath.cpython-311-x86_64-linux-gnu.so", 0o755, program("umath", 3_800_000))
	l.file(packages+"numpy/__init__.py", 0o644, text("numpy", 17_000))
	l.file("usr/local/bin/flask", 0o755, []byte("#!/usr/bin/python3\nimport sys\nfrom flask.cli import main\nsys.exit(main())\n"))
	for i := range 12 {
		body := fmt.Sprintf("root/.cache/pip/http/%x/%x/%032x", i%4, i%3, i)
		l.file(body, 0o600, packed(body, 320_000))
	}
	l.file("root/.cache/pip/selfcheck/4a1c.json", 0o600, []byte(`{"key":"/usr","last_check":"2023-03-14"}`))
}

func copyShop(l *layer) {
	for _, name := range []string{"app", "cart", "catalogue", "mail", "payment", "search", "stock", "users"} {
		l.file("srv/shop/src/"+name+".js", 0o644, text("src/"+name, 46_000))
	}
	l.file("srv/shop/package.json", 0o644, text("package.json", 1_900))
	l.file("srv/shop/package-lock.json", 0o644, text("package-lock.json", 380_000))
	l.file("srv/shop/shop.conf", 0o640, text("shop.conf", 700))
	l.file("srv/shop/data/catalogue.db", 0o644, program("catalogue.db", 7_500_000))
	l.file("srv/shop/native/shopd.c", 0o644, text("shopd.c", 90_000))
	l.file("srv/shop/.git/HEAD", 0o644, []byte("ref: refs/heads/main\n"))
	l.file("srv/shop/.git/objects/pack/pack-6f1d.pack", 0o444, packed("pack-6f1d", 2_600_000))
	l.symlink("srv/shop/releases/1/src", "../../src")
	l.symlink("srv/shop/releases/2/src", "../../src")
	l.symlink("srv/shop/current", "releases/1")
	l.symlink("srv/shop/latest", "current/src/app.js")
	l.dir("srv/shop/uploads", 0o775)
	l.file("srv/shop/docs/naïve \"quoted\" name.md", 0o644, text("naive", 2_000))
	l.file("srv/shop/docs/"+strings.Repeat("a-long-folder-name/", 8)+"index.md", 0o644, text("long", 2_000))
	l.file("etc/shop/shop.conf", 0o640, text("shop.conf", 700))
	l.file("etc/shop/keys/public.pem", 0o644, text("public.pem", 450))
	l.file("tmp/logo.png", 0o644, packed("logo.png", 64_000))
}

func npmInstall(l *layer) {
	for i := range 140 {
		module := fmt.Sprintf("srv/shop/node_modules/%s-%s", words[20+i%60], words[40+i%37])
		if _, ok := l.names[module]; ok {
			continue
		}
		l.file(module+"/package.json", 0o644, text(module+"package.json", 1_100))
		l.file(module+"/index.js", 0o644, text(module+"index.js", 22_000))
		l.file(module+"/README.md", 0o644, text(module+"README.md", 5_000))
		l.file(module+"/LICENSE", 0o644, text("MIT", 1_070))
		l.symlink(fmt.Sprintf("srv/shop/node_modules/.bin/tool-%03d", i), "../"+path.Base(module)+"/index.js")
	}
	for i := range 40 {
		blob := fmt.Sprintf("root/.npm/_cacache/content-v2/sha512/%02x/%02x/%060x", i, i*5%256, i*i)
		l.file(blob, 0o644, packed(blob, 90_000))
	}
	l.file("root/.npm/_logs/2023-03-14T09_41_00_000Z-debug-0.log", 0o644, text("npm log", 120_000))
	l.file("srv/shop/public/bundle.js", 0o644, text("bundle.js", 1_400_000))
	l.file("srv/shop/public/bundle.js.map", 0o644, text("bundle.js.map", 2_500_000))
}

// chmodCatalogue repeats the whole file for two bits of its mode.
func chmodCatalogue(l *layer) {
	l.update("srv/shop/data/catalogue.db", func(hdr *tar.Header) { hdr.Mode |= 0o020 })
}

// chownShop repeats the whole tree.
func chownShop(l *layer) {
	l.update("srv/shop", func(hdr *tar.Header) { hdr.Uid, hdr.Gid = appID, appID })
}

func installServer(l *layer) {
	l.file("usr/local/bin/docker-entrypoint.sh", 0o755, []byte("#!/bin/sh\nset -e\nexec \"$@\"\n"))
	l.make("usr/local/bin/shopd", &inode{
		hdr: tar.Header{
			Typeflag: tar.TypeReg, Mode: 0o755,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": netBindService},
		},
		content: program("shopd", 1_300_000),
	})
	l.owner(appID, appID)
	l.file("srv/shop/native/shopd.o", 0o644, program("shopd.o", 900_000))
}

func linkLogos(l *layer) {
	l.file("srv/shop/public/logo/a.png", 0o644, packed("logo.png", 64_000))
	l.link("srv/shop/public/logo/b.png", "srv/shop/public/logo/a.png")
	l.link("srv/shop/public/logo/c.png", "srv/shop/public/logo/a.png")
}

// removeSources takes away the first name of a link group: the others stay.
func removeSources(l *layer) {
	l.whiteout("srv/shop/public/logo/a.png")
	l.whiteout("srv/shop/native")
	l.whiteout("srv/shop/.git")
	l.whiteout("tmp/requirements.txt")
}

func purgeCompiler(l *layer) {
	l.whiteout("usr/lib/gcc")
	l.whiteout("usr/include")
	for _, name := range []string{"gcc", "gcc-12", "cc", "make"} {
		l.whiteout("usr/bin/" + name)
	}
	l.whiteout("etc/alternatives/cc")
	l.whiteout("usr/lib/x86_64-linux-gnu/libc.a")
	for _, name := range []string{"gcc-12", "libc6-dev", "make"} {
		l.whiteout("usr/share/doc/" + name)
		l.whiteout("var/lib/dpkg/info/" + name + ".list")
		l.whiteout("var/lib/dpkg/info/" + name + ".md5sums")
		l.status = slices.DeleteFunc(l.status, func(s string) bool { return strings.HasPrefix(s, "Package: "+name+"\n") })
	}
	l.dpkgStatus()
	l.appendTo("var/log/dpkg.log", text("dpkg.log 4", 30_000))
}

func configureNginx(l *layer) {
	l.opaque("etc/nginx/sites-enabled", 0o755)
	l.symlink("etc/nginx/sites-enabled/shop", "../sites-available/shop")
	l.file("etc/nginx/sites-available/shop", 0o644, text("sites-available/shop", 1_700))
	l.appendTo("etc/nginx/nginx.conf", []byte("daemon off;\n"))
}

func moveConfig(l *layer) {
	l.file("etc/shop", 0o644, []byte("moved\n"))
	l.owner(appID, appID)
	l.symlink("srv/shop/current", "releases/2")
}

func restoreConfig(l *layer) {
	l.dir("etc/shop", 0o750)
	l.file("etc/shop/shop.conf", 0o640, text("shop.conf", 700))
}

// nothing is a step that leaves an empty layer behind.
func nothing(*layer) {}
