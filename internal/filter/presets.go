package filter

import "slices"

// A Preset is a named rule: which files it removes from an image, and why that
// is safe. It never removes a directory: what is emptied stays, with its mode.
//
// Globs are .dockerignore patterns on canonical paths (clean, relative); a
// leading "~/" stands for every home, root/ and home/*/. They name files, so a
// tree is written "dir/**".
type Preset struct {
	Name      string    // as in --remove
	Ecosystem string    // whose files these are
	Remove    []string  // globs of the files and links that go
	Keep      []string  // globs of those that stay nevertheless
	When      Condition // what must hold besides
	Why       string    // why the files are not missed
	Default   bool      // part of the set "default"; others are added by name
}

// A Condition restricts a preset beyond its globs. Its text is for people.
type Condition string

const (
	// Always is no condition: regular files and symbolic links go.
	Always Condition = ""
	// RegularFiles spares links: a log is often one to /dev/stdout.
	RegularFiles Condition = "regular files only, never links"
	// SourceStays asks for the Python source that a bytecode file was compiled
	// from, beside it (PEP 3147: m.py for __pycache__/m.cpython-312.pyc).
	SourceStays Condition = "only where the .py beside it stays"
)

// Presets returns all presets in the order in which they are shown. Where two
// match, the earlier one is reported. The caller owns the result.
func Presets() []Preset {
	all := slices.Clone(presets)
	for i := range all {
		all[i].Remove = slices.Clone(all[i].Remove)
		all[i].Keep = slices.Clone(all[i].Keep)
	}
	return all
}

// presets is the data. To add a rule, add an entry here, its paths to the table
// in presets_test.go, and nothing else.
var presets = []Preset{
	// Package managers of the system. Their databases are guarded, see guards.
	{
		Name:      "apt",
		Ecosystem: "Debian, Ubuntu",
		Remove: []string{
			"var/lib/apt/lists/**",
			"var/cache/apt/**",
			"var/cache/debconf/*-old",
			"var/lib/dpkg/*-old",
			"var/log/apt/*",
			"var/log/dpkg.log",
			"var/log/alternatives.log",
			"var/log/bootstrap.log",
		},
		When:    RegularFiles,
		Why:     "apt-get update fetches the lists again; backups and logs of past installs are not read",
		Default: true,
	},
	{
		Name:      "apk",
		Ecosystem: "Alpine, Wolfi",
		Remove:    []string{"var/cache/apk/**", "etc/apk/cache/**"},
		Why:       "apk fetches indexes and packages again",
		Default:   true,
	},
	{
		Name:      "dnf",
		Ecosystem: "Fedora, RHEL",
		Remove: []string{
			"var/cache/dnf/**",
			"var/cache/libdnf5/**",
			"var/log/dnf*",
			"var/log/hawkey.log",
		},
		When:    RegularFiles,
		Why:     "dnf fetches metadata and packages again; logs of past installs are not read",
		Default: true,
	},
	{
		Name:      "yum",
		Ecosystem: "CentOS, RHEL, Amazon Linux",
		Remove:    []string{"var/cache/yum/**", "var/log/yum.log"},
		When:      RegularFiles,
		Why:       "yum and microdnf fetch metadata and packages again",
		Default:   true,
	},
	{
		Name:      "zypper",
		Ecosystem: "openSUSE, SLES",
		Remove:    []string{"var/cache/zypp/**"},
		Why:       "zypper fetches metadata and packages again",
		Default:   true,
	},
	{
		Name:      "pacman",
		Ecosystem: "Arch Linux",
		Remove:    []string{"var/cache/pacman/pkg/**"},
		Why:       "pacman fetches packages again",
		Default:   true,
	},

	// Package managers of languages.
	{
		Name:      "pip",
		Ecosystem: "Python",
		Remove:    []string{"~/.cache/pip/**"},
		Why:       "downloads and built wheels: installed packages are elsewhere",
		Default:   true,
	},
	{
		Name:      "uv",
		Ecosystem: "Python",
		Remove:    []string{"~/.cache/uv/**"},
		Why:       "what uv cache clean removes: tools and interpreters are in .local/share/uv",
		Default:   true,
	},
	{
		Name:      "poetry",
		Ecosystem: "Python",
		// Not all of pypoetry: the virtualenvs in it are applications.
		Remove:  []string{"~/.cache/pypoetry/cache/**", "~/.cache/pypoetry/artifacts/**"},
		Why:     "downloads and index metadata: environments are in virtualenvs, which stays",
		Default: true,
	},
	{
		Name:      "npm",
		Ecosystem: "Node.js",
		// Not all of .npm: _npx holds programs.
		Remove:  []string{"~/.npm/_cacache/**", "~/.npm/_logs/**"},
		Why:     "downloads and logs: installed packages are in node_modules",
		Default: true,
	},
	{
		Name:      "yarn",
		Ecosystem: "Node.js",
		// Not .yarn/berry/cache: with Plug'n'Play programs run from it.
		Remove:  []string{"~/.cache/yarn/**", "usr/local/share/.cache/yarn/**"},
		Why:     "downloads of Yarn 1: installed packages are in node_modules",
		Default: true,
	},
	{
		Name:      "pnpm",
		Ecosystem: "Node.js",
		Remove: []string{
			"~/.local/share/pnpm/store/**",
			"~/.pnpm-store/**",
			"pnpm/store/**", // PNPM_HOME=/pnpm, as pnpm's guide for Docker has it
		},
		// The global virtual store: node_modules are links into it.
		Keep: []string{
			"~/.local/share/pnpm/store/**/links/**",
			"~/.pnpm-store/**/links/**",
			"pnpm/store/**/links/**",
		},
		Why:     "the content store: files of node_modules are hard links to it or copies, and stay",
		Default: true,
	},
	{
		Name:      "node-gyp",
		Ecosystem: "Node.js",
		Remove:    []string{"~/.cache/node-gyp/**", "~/.node-gyp/**"},
		Why:       "headers for building add-ons, fetched again when one is built",
		Default:   true,
	},
	{
		Name:      "gem",
		Ecosystem: "Ruby",
		Remove: []string{
			"usr/lib/ruby/gems/*/cache/*.gem",
			"usr/local/lib/ruby/gems/*/cache/*.gem",
			"usr/local/bundle/cache/*.gem",
			"usr/local/bundle/ruby/*/cache/*.gem",
			"usr/share/gems/cache/*.gem",
			"usr/local/share/gems/cache/*.gem",
			"var/lib/gems/*/cache/*.gem",
			"~/.gem/ruby/*/cache/*.gem",
			"~/.local/share/gem/ruby/*/cache/*.gem",
		},
		Why:     "packages as downloaded: installed gems are in gems and specifications",
		Default: true,
	},
	{
		Name:      "bundler",
		Ecosystem: "Ruby",
		// Not vendor/cache: an application installs from it.
		Remove: []string{
			"~/.bundle/cache/**",
			"usr/local/bundle/cache/bundler/**",
			"usr/local/bundle/ruby/*/cache/bundler/**",
		},
		Why:     "index metadata and bare clones: gems from git are checked out in bundler/gems",
		Default: true,
	},
	{
		Name:      "composer",
		Ecosystem: "PHP",
		Remove:    []string{"~/.cache/composer/**", "~/.composer/cache/**"},
		Why:       "downloads: installed packages are in vendor",
		Default:   true,
	},
	{
		Name:      "go-build",
		Ecosystem: "Go",
		Remove:    []string{"~/.cache/go-build/**"},
		Why:       "compiled packages: a build makes them again",
		Default:   true,
	},
	{
		Name:      "cargo",
		Ecosystem: "Rust",
		Remove:    []string{"~/.cargo/registry/cache/**", "usr/local/cargo/registry/cache/**"},
		Why:       "crates as downloaded: unpacked sources and programs stay",
		Default:   true,
	},
	{
		Name:      "conda",
		Ecosystem: "Conda, Mamba",
		Remove: []string{
			"opt/conda/pkgs/**",
			"opt/miniconda/pkgs/**",
			"opt/miniconda3/pkgs/**",
			"opt/anaconda/pkgs/**",
			"opt/anaconda3/pkgs/**",
			"opt/miniforge3/pkgs/**",
			"opt/mambaforge/pkgs/**",
			"opt/micromamba/pkgs/**",
			"~/miniconda3/pkgs/**",
			"~/anaconda3/pkgs/**",
			"~/miniforge3/pkgs/**",
			"~/mambaforge/pkgs/**",
			"~/micromamba/pkgs/**",
			"~/.conda/pkgs/**",
			"~/.mamba/pkgs/**",
		},
		// Conda knows a writable package cache by these files.
		Keep: []string{
			"opt/*/pkgs/urls",
			"opt/*/pkgs/urls.txt",
			"~/*/pkgs/urls",
			"~/*/pkgs/urls.txt",
		},
		Why:     "what conda clean --all --force-pkgs-dirs removes: files of environments are hard links to it or copies, and stay",
		Default: true,
	},

	// Documentation.
	{
		Name:      "docs",
		Ecosystem: "any",
		Remove: []string{
			"usr/share/man/**",
			"usr/share/info/**",
			"usr/share/doc/**",
			"usr/share/lintian/**",
			"usr/share/linda/**",
		},
		Keep: []string{
			"usr/share/doc/**/copyright",
			"usr/share/doc/**/Copyright",
			"usr/share/doc/**/COPYRIGHT",
			"usr/share/doc/**/LICEN[CS]E*",
			"usr/share/doc/**/[Ll]icen[cs]e*",
			"usr/share/doc/**/COPYING*",
			"usr/share/doc/**/[Cc]opying*",
			"usr/share/doc/**/NOTICE*",
			"usr/share/doc/**/[Nn]otice*",
			"usr/share/doc/**/LICEN[CS]ES/**",
			"usr/share/doc/**/[Ll]icen[cs]es/**",
			"usr/share/licenses/**",
			"usr/share/common-licenses/**",
		},
		Why:     "pages nobody reads in a container; licences stay, and so do directories, which package installs expect",
		Default: true,
	},

	// From here on: only by name.
	{
		Name:      "more-docs",
		Ecosystem: "any",
		Remove:    []string{"usr/share/groff/**", "usr/share/gtk-doc/**", "usr/share/help/**"},
		Why:       "help of desktop programs and of libraries; without its macros groff (and man) format nothing",
	},
	{
		Name:      "locales",
		Ecosystem: "any",
		Remove:    []string{"usr/share/locale/**"},
		Keep: []string{
			"usr/share/locale/C/**",
			"usr/share/locale/C.*/**",
			"usr/share/locale/en*/**",
			"usr/share/locale/locale.alias",
		},
		Why: "programs speak English where a translation is missing; usr/lib/locale stays",
	},
	{
		Name:      "logs",
		Ecosystem: "any",
		Remove:    []string{"var/log/**"},
		When:      RegularFiles,
		Why:       "what was logged during the build; a service that cannot create its log may need the file",
	},
	{
		Name:      "tmp",
		Ecosystem: "any",
		Remove:    []string{"tmp/**", "var/tmp/**"},
		Why:       "nothing may count on temporary files to last",
	},
	{
		Name:      "python-bytecode",
		Ecosystem: "Python",
		Remove:    []string{"**/*.pyc", "**/*.pyo"},
		When:      SourceStays,
		Why:       "Python compiles again, at every start where it cannot write: smaller, but slower to start",
	},
	{
		Name:      "build-caches",
		Ecosystem: "Java, Go",
		// Not all of .m2 and .gradle: settings, init scripts and provisioned JDKs are there.
		Remove: []string{
			"~/.m2/repository/**",
			"~/.m2/wrapper/dists/**",
			"~/.gradle/caches/**",
			"~/.gradle/daemon/**",
			"~/.gradle/native/**",
			"~/.gradle/wrapper/dists/**",
			"~/go/pkg/mod/**",
			"go/pkg/mod/**",
		},
		Why: "dependencies of builds, fetched again by the next one; wrong where the image builds offline",
	},
	{
		Name:      "devel",
		Ecosystem: "C, C++",
		Remove: []string{
			"usr/include/**",
			"usr/local/include/**",
			"lib/**/*.a",
			"lib32/**/*.a",
			"lib64/**/*.a",
			"usr/lib/**/*.a",
			"usr/lib32/**/*.a",
			"usr/lib64/**/*.a",
			"usr/libx32/**/*.a",
			"usr/local/lib/**/*.a",
			"usr/local/lib64/**/*.a",
			"usr/lib/**/pkgconfig/*.pc",
			"usr/lib32/**/pkgconfig/*.pc",
			"usr/lib64/**/pkgconfig/*.pc",
			"usr/local/lib/**/pkgconfig/*.pc",
			"usr/local/lib64/**/pkgconfig/*.pc",
			"usr/share/pkgconfig/*.pc",
			"usr/local/share/pkgconfig/*.pc",
		},
		// Python's sysconfig reads these at run time.
		Keep: []string{"usr/include/**/pyconfig*.h", "usr/local/include/**/pyconfig*.h"},
		Why:  "headers, static libraries and pkg-config files serve compilers only; wrong where the image compiles",
	},
	{
		Name:      "vcs",
		Ecosystem: "Git, Subversion, Mercurial",
		// A .git that is a file points to the repository of a worktree or submodule.
		Remove: []string{"**/.git", "**/.git/**", "**/.svn/**", "**/.hg/**"},
		Why:    "history of checked-out sources; programs that update themselves by git cannot any more",
	},
}

// A guard names files that no preset may touch and that a user is warned about.
type guard struct {
	paths  []string // globs; all that lies below is guarded, too
	except []string // globs of files that are free nevertheless
	breaks string   // one sentence: what their removal breaks
}

// guards is the data, by what breaks.
var guards = []guard{
	{
		paths: []string{
			"var/lib/dpkg",
			"lib/apk/db", "usr/lib/apk/db", "etc/apk/world", "etc/apk/keys",
			"var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm",
			"usr/lib/sysimage/libdnf5", "var/lib/dnf", "var/lib/yum", "var/lib/zypp",
			"var/lib/pacman",
		},
		except: []string{"var/lib/dpkg/*-old"},
		breaks: "package managers and vulnerability scanners no longer see what is installed",
	},
	{
		paths:  []string{"etc/os-release", "usr/lib/os-release", "etc/*-release", "etc/debian_version"},
		breaks: "scanners and installers no longer recognise the distribution",
	},
	{
		paths:  []string{"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/nsswitch.conf"},
		breaks: "names of users, groups and hosts may no longer resolve, and a USER given by name cannot start",
	},
	{
		paths: []string{
			"etc/ssl/certs", "etc/ssl/cert.pem", "etc/ssl/ca-bundle.pem", "usr/lib/ssl/certs", "usr/lib/ssl/cert.pem",
			"etc/pki", "usr/share/pki",
			"etc/ca-certificates", "etc/ca-certificates.conf",
			"usr/share/ca-certificates", "usr/local/share/ca-certificates", "var/lib/ca-certificates",
		},
		breaks: "TLS connections fail, as certificates of servers can no longer be checked",
	},
}
