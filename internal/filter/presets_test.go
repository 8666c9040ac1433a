package filter

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// presetPaths lists for every preset paths that go and neighbours that must stay.
var presetPaths = map[string]struct{ goes, stays []string }{
	"apt": {
		[]string{
			"var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_InRelease",
			"var/lib/apt/lists/partial/x",
			"var/lib/apt/lists/lock",
			"var/cache/apt/pkgcache.bin",
			"var/cache/apt/archives/curl_7.88_amd64.deb",
			"var/cache/debconf/config.dat-old",
			"var/lib/dpkg/status-old",
			"var/lib/dpkg/diversions-old",
			"var/log/apt/history.log",
			"var/log/dpkg.log",
			"var/log/alternatives.log",
			"var/log/bootstrap.log",
		},
		[]string{
			"var/lib/dpkg/status",
			"var/lib/dpkg/info/curl.list-old",
			"var/lib/dpkg/status.d/base-files",
			"var/lib/apt/extended_states",
			"var/lib/apt/lists", // were it a file
			"var/cache/debconf/config.dat",
			"var/cache/apt-cacher-ng/x",
			"var/log/apt",
			"var/log/nginx/dpkg.log",
			"etc/apt/sources.list",
			"app/var/cache/apt/pkgcache.bin",
		},
	},
	"apk": {
		[]string{"var/cache/apk/APKINDEX.00740ba1.tar.gz", "etc/apk/cache/curl-8.5.0.apk", "var/cache/apk/installed"},
		[]string{"lib/apk/db/installed", "etc/apk/world", "etc/apk/repositories", "etc/apk/keys/alpine.pub", "etc/apk/cache", "var/cache/misc/x"},
	},
	"dnf": {
		[]string{"var/cache/dnf/fedora-f21308f6293b3270/repodata/x.xml.gz", "var/cache/libdnf5/updates/solv/x.solv", "var/log/dnf.log", "var/log/dnf.rpm.log", "var/log/dnf5.log", "var/log/hawkey.log"},
		[]string{"var/lib/dnf/history.sqlite", "var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite", "etc/dnf/dnf.conf", "var/log/app/dnf.log", "usr/lib/sysimage/libdnf5/packages.toml"},
	},
	"yum": {
		[]string{"var/cache/yum/x86_64/7/base/repomd.xml", "var/cache/yum/timedhosts", "var/log/yum.log"},
		[]string{"var/lib/yum/yumdb/x", "etc/yum.conf", "var/log/yum.log.conf", "var/lib/rpm/Packages"},
	},
	"zypper": {
		[]string{"var/cache/zypp/raw/repo-oss/x", "var/cache/zypp/solv/@System/solv", "var/cache/zypp/packages/a.rpm"},
		[]string{"var/lib/zypp/AnonymousUniqueId", "etc/zypp/repos.d/oss.repo", "usr/lib/sysimage/rpm/Packages.db"},
	},
	"pacman": {
		[]string{"var/cache/pacman/pkg/bash-5.2-1.pkg.tar.zst", "var/cache/pacman/pkg/bash-5.2-1.pkg.tar.zst.sig", "var/cache/pacman/pkg/a/b"},
		[]string{"var/lib/pacman/local/bash-5.2-1/desc", "var/lib/pacman/sync/core.db", "etc/pacman.conf", "etc/pacman.d/gnupg/pubring.gpg"},
	},
	"pip": {
		[]string{"root/.cache/pip/http/a/b", "root/.cache/pip/selfcheck.json", "home/app/.cache/pip/wheels/x.whl"},
		[]string{"usr/lib/python3/dist-packages/pip/__init__.py", "root/.cache/pipenv/x", "root/.config/pip/pip.conf", "home/.cache/pip/x", "home/a/b/.cache/pip/x", "app/.cache/pip/x"},
	},
	"uv": {
		[]string{"root/.cache/uv/archive-v0/x/y.py", "home/u/.cache/uv/wheels-v5/pypi/a.msgpack", "root/.cache/uv/CACHEDIR.TAG"},
		[]string{"root/.local/share/uv/tools/ruff/bin/ruff", "root/.local/share/uv/python/cpython-3.12/bin/python3", "root/.config/uv/uv.toml", "root/.local/bin/uv"},
	},
	"poetry": {
		[]string{"root/.cache/pypoetry/cache/repositories/pypi/x", "root/.cache/pypoetry/artifacts/aa/b.whl", "home/app/.cache/pypoetry/artifacts/x"},
		[]string{"root/.cache/pypoetry/virtualenvs/app-py3.11/bin/python", "root/.local/share/pypoetry/venv/bin/poetry", "root/.config/pypoetry/config.toml", "root/.cache/pypoetry/virtualenvs/a/lib/cache/x"},
	},
	"npm": {
		[]string{"root/.npm/_cacache/content-v2/sha512/aa/bb", "root/.npm/_logs/2024-debug-0.log", "home/node/.npm/_cacache/index-v5/x"},
		[]string{"root/.npm/_npx/abc/node_modules/.bin/tool", "root/.npmrc", "usr/local/lib/node_modules/npm/package.json", "app/.npm/_cacache/x"},
	},
	"yarn": {
		[]string{"root/.cache/yarn/v6/npm-a/package.json", "usr/local/share/.cache/yarn/v6/.tmp/x", "home/node/.cache/yarn/v6/x"},
		[]string{"root/.yarn/berry/cache/a.zip", "root/.config/yarn/global/node_modules/a/b.js", "opt/yarn-v1.22.19/bin/yarn", "app/.yarn/cache/a.zip", "usr/local/share/.cache/ms-playwright/chromium/chrome"},
	},
	"pnpm": {
		[]string{"root/.local/share/pnpm/store/v3/files/00/abc", "root/.local/share/pnpm/store/v10/index/00/a.json", "home/node/.pnpm-store/v3/files/x", "pnpm/store/v3/files/00/x"},
		[]string{"root/.local/share/pnpm/store/v10/links/@/lodash/4.17.21/h/node_modules/lodash/index.js", "root/.local/share/pnpm/global/5/node_modules/a/b.js", "root/.local/share/pnpm/pnpm", "pnpm/global/5/node_modules/a", "pnpm/store/v10/links/a", "app/node_modules/.pnpm/a/b.js", "root/.pnpm-store/v10/links/a"},
	},
	"node-gyp": {
		[]string{"root/.cache/node-gyp/20.1.0/include/node/node.h", "root/.node-gyp/8.0.0/x", "home/node/.cache/node-gyp/20.1.0/installVersion"},
		[]string{"usr/local/include/node/node.h", "app/node_modules/node-gyp/bin/node-gyp.js", "root/.cache/node/corepack/pnpm/8.0.0/bin/pnpm.cjs"},
	},
	"gem": {
		[]string{"usr/lib/ruby/gems/3.1.0/cache/rake-13.gem", "usr/local/lib/ruby/gems/3.3.0/cache/a.gem", "usr/local/bundle/cache/rails-7.gem", "usr/local/bundle/ruby/3.3.0/cache/a.gem", "var/lib/gems/3.1.0/cache/a.gem", "root/.gem/ruby/3.1.0/cache/a.gem", "home/app/.local/share/gem/ruby/3.1.0/cache/a.gem", "usr/share/gems/cache/a.gem"},
		[]string{"usr/local/bundle/gems/rails-7/lib/rails.rb", "usr/local/bundle/specifications/rails-7.gemspec", "app/vendor/cache/rails-7.gem", "usr/local/bundle/gems/x/cache/a.gem", "usr/local/bundle/cache/readme", "usr/lib/ruby/gems/3.1.0/gems/a/cache/b.gem"},
	},
	"bundler": {
		[]string{"root/.bundle/cache/compact_index/x/versions", "usr/local/bundle/cache/bundler/git/rails-abc/HEAD", "usr/local/bundle/ruby/3.3.0/cache/bundler/git/a/config"},
		[]string{"app/vendor/cache/rails-7.gem", "app/vendor/bundle/ruby/3.3.0/bundler/gems/a/x.rb", "usr/local/bundle/bundler/gems/rails-abc/x.rb", "root/.bundle/config", "usr/local/bundle/config", "root/.bundle/plugin/index"},
	},
	"composer": {
		[]string{"root/.cache/composer/files/a/b.zip", "root/.composer/cache/repo/x.json", "home/www/.composer/cache/vcs/x"},
		[]string{"root/.composer/vendor/bin/phpunit", "root/.composer/auth.json", "root/.config/composer/vendor/a.php", "app/vendor/composer/autoload_real.php"},
	},
	"go-build": {
		[]string{"root/.cache/go-build/00/00aa-d", "root/.cache/go-build/trim.txt", "home/go/.cache/go-build/README"},
		[]string{"go/pkg/mod/a@v1/x.go", "go/bin/tool", "usr/local/go/pkg/tool/linux_amd64/compile", "root/.cache/golangci-lint/x"},
	},
	"cargo": {
		[]string{"root/.cargo/registry/cache/index.crates.io-6f17d22bba15001f/serde-1.crate", "usr/local/cargo/registry/cache/a/b.crate", "home/rust/.cargo/registry/cache/a/b.crate"},
		[]string{"root/.cargo/bin/cargo", "usr/local/cargo/bin/rustc", "root/.cargo/registry/src/a/serde-1/lib.rs", "root/.cargo/config.toml", "root/.cargo/registry/index/a/.cache/x"},
	},
	"conda": {
		[]string{"opt/conda/pkgs/numpy-1.26.conda", "opt/conda/pkgs/numpy-1.26/lib/libx.so", "opt/conda/pkgs/cache/09cdf8bf.json", "root/miniconda3/pkgs/a.tar.bz2", "home/jovyan/.conda/pkgs/a", "opt/mambaforge/pkgs/x"},
		[]string{"opt/conda/envs/app/lib/libx.so", "opt/conda/lib/python3.11/site-packages/a/pkgs/b.py", "opt/conda/conda-meta/history", "opt/conda/pkgs/urls.txt", "opt/conda/pkgs/urls", "root/.conda/environments.txt", "root/miniconda3/pkgs/urls.txt", "opt/other/pkgs/a"},
	},
	"docs": {
		[]string{"usr/share/man/man1/ls.1.gz", "usr/share/man/de/man1/ls.1.gz", "usr/share/info/dir", "usr/share/doc/curl/changelog.gz", "usr/share/doc/curl/examples/a/b.c", "usr/share/lintian/overrides/curl", "usr/share/linda/x", "usr/share/doc/copyrights.txt"},
		[]string{"usr/share/doc/curl/copyright", "usr/share/doc/curl/LICENSE.txt", "usr/share/doc/curl/LICENCE", "usr/share/doc/curl/sub/COPYING.LIB", "usr/share/doc/curl/NOTICE", "usr/share/doc/a/License.md", "usr/share/doc/a/licence", "usr/share/doc/a/Copying", "usr/share/doc/a/LICENSES/MIT.txt", "usr/share/licenses/bash/COPYING", "usr/share/common-licenses/GPL-3", "usr/share/docker/x", "usr/share/mangohud/x", "usr/local/share/man/man1/x.1", "usr/share/manifest"},
	},
	"more-docs": {
		[]string{"usr/share/groff/1.22.4/tmac/an.tmac", "usr/share/gtk-doc/html/a/b.html", "usr/share/help/C/gedit/index.page"},
		[]string{"usr/share/groff-base/x", "usr/bin/groff", "usr/share/helpers/x", "app/help/x"},
	},
	"locales": {
		[]string{"usr/share/locale/de/LC_MESSAGES/bash.mo", "usr/share/locale/zh_CN/LC_TIME/coreutils.mo", "usr/share/locale/sr@latin/LC_MESSAGES/x.mo"},
		[]string{"usr/share/locale/en/LC_MESSAGES/bash.mo", "usr/share/locale/en_GB/LC_MESSAGES/bash.mo", "usr/share/locale/en@quot/LC_MESSAGES/bash.mo", "usr/share/locale/C/LC_MESSAGES/x.mo", "usr/share/locale/locale.alias", "usr/lib/locale/C.utf8/LC_CTYPE", "usr/lib/locale/locale-archive", "usr/share/i18n/locales/de_DE", "app/locale/de/LC_MESSAGES/app.mo"},
	},
	"logs": {
		[]string{"var/log/lastlog", "var/log/nginx/error.log", "var/log/journal/a/system.journal"},
		[]string{"app/log/production.log", "var/lib/app/var/log/x", "var/logs/x", "var/log"},
	},
	"tmp": {
		[]string{"tmp/x", "tmp/a/b/c", "var/tmp/x", "tmp/.X11-unix/x"},
		[]string{"app/tmp/pids/server.pid", "usr/tmp/x", "tmpfiles/x", "tmp", "var/tmp"},
	},
	"python-bytecode": {
		[]string{"app/__pycache__/mod.cpython-312.pyc", "app/__pycache__/mod.cpython-312.opt-1.pyc", "app/__pycache__/mod.cpython-34.pyo", "app/mod.pyc", "app/mod.pyo", "__pycache__/top.cpython-312.pyc"},
		[]string{
			"app/__pycache__/gone.cpython-312.pyc", // the source is not there
			"app/gone.pyc",
			"app/__pycache__/mod.pyc", // not a name that Python gives
			"app/__pycache__/mod.cpython-312.x.pyc",
			"app/__pycache__/.cpython-312.pyc",
			"app/x__pycache__/mod.cpython-312.pyc",
			"app/.pyc",
			"app/mod.py",
			"app/mod.pyc.txt",
		},
	},
	"build-caches": {
		[]string{"root/.m2/repository/org/a/a.jar", "root/.gradle/caches/modules-2/x", "root/.gradle/wrapper/dists/gradle-8/x", "go/pkg/mod/a@v1.0.0/a.go", "root/go/pkg/mod/cache/download/x", "home/u/.m2/repository/x"},
		[]string{"root/.m2/settings.xml", "root/.m2/settings-security.xml", "root/.gradle/gradle.properties", "root/.gradle/init.d/proxy.gradle", "root/.gradle/jdks/temurin-21/bin/java", "go/bin/tool", "go/src/a/a.go", "usr/share/maven-repo/a.jar", "app/.m2/repository/a.jar"},
	},
	"devel": {
		[]string{"usr/include/stdio.h", "usr/include/c++/12/vector", "usr/local/include/node/node.h", "usr/lib/x86_64-linux-gnu/libc.a", "usr/lib64/libz.a", "lib/libx.a", "usr/libx32/libm.a", "usr/local/lib/libpython3.11.a", "usr/lib/pkgconfig/a.pc", "usr/lib/x86_64-linux-gnu/pkgconfig/zlib.pc", "usr/share/pkgconfig/x.pc"},
		[]string{"usr/include/python3.11/pyconfig.h", "usr/include/x86_64-linux-gnu/python3.11/pyconfig.h", "usr/local/include/python3.12/pyconfig-64.h", "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/ImageMagick-6.9.11/modules-Q16/coders/png.la", "usr/local/cuda/include/cuda.h", "usr/local/go/pkg/linux_amd64/fmt.a", "app/lib/x.a", "libs/x.a", "usr/share/x/a.pc"},
	},
	"vcs": {
		[]string{"app/.git/HEAD", "app/.git/objects/aa/bb", ".git/config", "app/sub/.git", "app/.svn/entries", "app/.hg/store/00changelog.i"},
		[]string{"app/.gitignore", "app/.gitattributes", "app/.github/workflows/ci.yml", "app/x.git/HEAD", "app/git/HEAD", "app/.hgignore"},
	},
}

// only returns the rules of one preset.
func only(t *testing.T, name string) *Rules {
	t.Helper()
	r, err := New(Options{Remove: name})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return r
}

// sources tells which Python sources the tests have.
func sources(path string) bool { return path == "app/mod.py" || path == "top.py" }

func TestPresetPaths(t *testing.T) {
	for _, p := range Presets() {
		t.Run(p.Name, func(t *testing.T) {
			paths := presetPaths[p.Name]
			if len(paths.goes) < 3 || len(paths.stays) < 3 {
				t.Fatalf("%d paths go and %d stay: at least 3 of each are needed", len(paths.goes), len(paths.stays))
			}
			r := only(t, p.Name)
			for _, path := range paths.goes {
				if got := r.Match(path, 0, sources); got.Rule != p.Name || got.User || got.Kept || got.Guarded != "" {
					t.Errorf("Match(%q) = %+v, want removal by %s", path, got, p.Name)
				}
				if got := r.Match(path, fs.ModeDir|0o755, sources); got.Rule != "" {
					t.Errorf("Match(%q as a directory) = %+v, want it to stay", path, got)
				}
				wantLink := p.Name
				if p.When == RegularFiles {
					wantLink = ""
				}
				if got := r.Match(path, fs.ModeSymlink, sources); got.Rule != wantLink {
					t.Errorf("Match(%q as a link) = %+v, want rule %q", path, got, wantLink)
				}
			}
			for _, path := range paths.stays {
				if got := r.Match(path, 0, sources); got.Rule != "" {
					t.Errorf("Match(%q) = %+v, want it to stay", path, got)
				}
			}
		})
	}
}

func TestPresetPathsNameOnlyPresets(t *testing.T) {
	all := only(t, strings.Join(presetNamesList(), ","))
	for name := range presetPaths {
		if !slices.Contains(all.Active(), name) {
			t.Errorf("the table has paths for %q, which is no preset", name)
		}
	}
}

func presetNamesList() []string {
	var names []string
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return names
}

func TestPresetsAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Presets() {
		if seen[p.Name] {
			t.Errorf("two presets are called %q", p.Name)
		}
		seen[p.Name] = true
		if p.Name == "" || strings.ContainsAny(p.Name, ", +") || strings.ToLower(p.Name) != p.Name || p.Name[0] == '-' {
			t.Errorf("%q cannot be written in --remove", p.Name)
		}
		if p.Ecosystem == "" || p.Why == "" || len(p.Remove) == 0 {
			t.Errorf("preset %s lacks its ecosystem, its reason or its globs", p.Name)
		}
		for _, g := range slices.Concat(p.Remove, p.Keep) {
			below := strings.TrimPrefix(g, "~/")
			if clean, err := cleanPattern(below); err != nil || clean != below || strings.ContainsAny(g, "!\\") {
				t.Errorf("preset %s: glob %q is not in its plain form", p.Name, g)
			}
		}
	}
}

func TestPresetsIsACopy(t *testing.T) {
	Presets()[0].Remove[0] = "**"
	if got := Presets()[0].Remove[0]; got == "**" {
		t.Error("a caller changed the data of the presets")
	}
}

// guardedPaths are files of real images that no preset may remove.
var guardedPaths = []string{
	"var/lib/dpkg/status",
	"var/lib/dpkg/available",
	"var/lib/dpkg/info/base-files.list",
	"var/lib/dpkg/info/base-files.md5sums",
	"var/lib/dpkg/info/x.a",
	"var/lib/dpkg/info/.git/x",
	"var/lib/dpkg/status.d/tzdata",
	"var/lib/dpkg/triggers/File",
	"var/lib/dpkg/alternatives/awk",
	"lib/apk/db/installed",
	"lib/apk/db/scripts.tar",
	"lib/apk/db/x.a",
	"usr/lib/apk/db/installed",
	"usr/lib/apk/db/x.a",
	"etc/apk/world",
	"etc/apk/keys/alpine-devel.rsa.pub",
	"var/lib/rpm/Packages",
	"var/lib/rpm/rpmdb.sqlite",
	"usr/lib/sysimage/rpm/rpmdb.sqlite",
	"usr/lib/sysimage/rpm/x.a",
	"usr/lib/sysimage/libdnf5/packages.toml",
	"var/lib/dnf/history.sqlite",
	"var/lib/yum/history/x.sqlite",
	"var/lib/zypp/AutoInstalled",
	"var/lib/pacman/local/bash-5.2-1/desc",
	"var/lib/pacman/local/mod/mod.pyc",
	"etc/os-release",
	"usr/lib/os-release",
	"etc/alpine-release",
	"etc/debian_version",
	"etc/passwd",
	"etc/group",
	"etc/shadow",
	"etc/gshadow",
	"etc/nsswitch.conf",
	"etc/ssl/certs/ca-certificates.crt",
	"etc/ssl/certs/ISRG_Root_X1.pem",
	"etc/ssl/certs/java/cacerts",
	"etc/ssl/certs/.git/config",
	"etc/ssl/cert.pem",
	"etc/pki/tls/certs/ca-bundle.crt",
	"etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"etc/pki/ca-trust/source/anchors/corp.pem",
	"etc/ca-certificates/extracted/tls-ca-bundle.pem",
	"etc/ca-certificates.conf",
	"usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt",
	"usr/share/pki/ca-trust-source/ca-bundle.trust.p11-kit",
	"usr/local/share/ca-certificates/corp.crt",
	"usr/local/share/ca-certificates/.git",
	"var/lib/ca-certificates/ca-bundle.pem",
}

func TestNoPresetTouchesGuardedPaths(t *testing.T) {
	exists := func(string) bool { return true }
	for _, p := range Presets() {
		r := only(t, p.Name)
		for _, path := range guardedPaths {
			for _, typ := range []fs.FileMode{0, fs.ModeSymlink, fs.ModeDir} {
				if got := r.Match(path, typ, exists); got.Rule != "" {
					t.Errorf("preset %s removes %q (type %v)", p.Name, path, typ)
				}
			}
		}
	}
}

func TestGuardHoldsAgainstAnyPreset(t *testing.T) {
	r := only(t, "none")
	if err := r.addPreset(0, Preset{Name: "greedy", Remove: []string{"**"}}); err != nil {
		t.Fatal(err)
	}
	for _, path := range guardedPaths {
		if got := r.Match(path, 0, nil); got != (Verdict{}) {
			t.Errorf("Match(%q) = %+v, want the guard to hold", path, got)
		}
	}
	for _, path := range []string{"var/lib/dpkg/status-old", "var/lib/apt/lists/x", "etc/passwd-", "etc/ssl/openssl.cnf", "app/etc/passwd"} {
		if got := r.Match(path, 0, nil); got.Rule != "greedy" {
			t.Errorf("Match(%q) = %+v, want removal: it is not guarded", path, got)
		}
	}
}

// TestPresetGlobsMissGuards holds the data apart from the guard: no glob aims at
// a guarded path by its place in the tree.
func TestPresetGlobsMissGuards(t *testing.T) {
	for _, p := range Presets() {
		for _, text := range homes(p.Remove) {
			if strings.HasPrefix(text, "**/") || strings.HasSuffix(text, "/**/*.a") {
				continue // anywhere, by suffix: the guard is for these
			}
			g, err := compile(text)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range guardedPaths {
				if g.match(path, false) {
					t.Errorf("preset %s: %q matches %q", p.Name, text, path)
				}
			}
		}
	}
}
