package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const hexDigest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParseRef(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     Ref
		text     string // of String, where it is not in
	}{
		{"name alone", "app", Ref{Registry, "", "app"}, ""},
		{"host, port, tag", "localhost:5000/a/b:1.2", Ref{Registry, "", "localhost:5000/a/b:1.2"}, ""},
		{"digest", "r.example.com/a@sha256:" + hexDigest, Ref{Registry, "", "r.example.com/a@sha256:" + hexDigest}, ""},
		{"tag and digest", "a:1@sha256:" + hexDigest, Ref{Registry, "", "a:1@sha256:" + hexDigest}, ""},
		{"docker://", "docker://app:1", Ref{Registry, "", "app:1"}, "app:1"},
		{"tag of the repository docker", "docker:dind", Ref{Registry, "", "docker:dind"}, ""},
		{"docker:// before the name of a transport", "docker://oci:1", Ref{Registry, "", "oci:1"}, "docker://oci:1"},
		{"docker:// before the name of a foreign transport", "docker://dir:1", Ref{Registry, "", "dir:1"}, "docker://dir:1"},
		{"docker:// before the name of a file", "docker://app.tar", Ref{Registry, "", "app.tar"}, "docker://app.tar"},
		{"layout", "oci:dir", Ref{OCI, "dir", ""}, ""},
		{"layout and name", "oci:/a/b:1.2", Ref{OCI, "/a/b", "1.2"}, ""},
		{"empty name", "oci:dir:", Ref{OCI, "dir", ""}, "oci:dir"},
		{"name with colons", "oci:dir:r.example.com:5000/a:1", Ref{OCI, "dir", "r.example.com:5000/a:1"}, ""},
		{"drive", `oci:C:\images\a:1`, Ref{OCI, `C:\images\a`, "1"}, ""},
		{"drive with slashes", "docker-archive:d:/a.tar:a:1", Ref{DockerArchive, "d:/a.tar", "a:1"}, ""},
		{"layout digest", "oci:dir:@sha256:" + hexDigest, Ref{OCI, "dir", "@sha256:" + hexDigest}, ""},
		{"layout digest without colon", "oci:dir@sha256:" + hexDigest, Ref{OCI, "dir", "@sha256:" + hexDigest}, "oci:dir:@sha256:" + hexDigest},
		{"at sign in a path", "oci:me@home:1", Ref{OCI, "me@home", "1"}, ""},
		{"name with a digest is a name", "oci:dir:a@sha256:" + hexDigest, Ref{OCI, "dir", "a@sha256:" + hexDigest}, ""},
		{"archive of a layout", "oci-archive:f.tar:1", Ref{OCIArchive, "f.tar", "1"}, ""},
		{"archive of a layout on a stream", "oci-archive:-", Ref{OCIArchive, "-", ""}, ""},
		{"saved file", "docker-archive:./f.tar", Ref{DockerArchive, "./f.tar", ""}, ""},
		{"saved file and name", "docker-archive:f.tar:a/b:1", Ref{DockerArchive, "f.tar", "a/b:1"}, ""},
		{"docker's own tag", "docker-archive:f.tar:a/b", Ref{DockerArchive, "f.tar", "a/b:latest"}, "docker-archive:f.tar:a/b:latest"},
		{"host with a port and no tag", "docker-archive:f.tar:h:5000/b", Ref{DockerArchive, "f.tar", "h:5000/b:latest"}, "docker-archive:f.tar:h:5000/b:latest"},
		{"number in a saved file", "docker-archive:f.tar:@2", Ref{DockerArchive, "f.tar", "@2"}, ""},
		{"saved stream", "docker-archive:-:a:1", Ref{DockerArchive, "-", "a:1"}, ""},
		{"engine", "docker-daemon:r.example.com:5000/a/b:1.2", Ref{DockerDaemon, "", "r.example.com:5000/a/b:1.2"}, ""},
		{"engine and no tag", "docker-daemon:a/b", Ref{DockerDaemon, "", "a/b:latest"}, "docker-daemon:a/b:latest"},
		{"engine and a digest", "docker-daemon:a:1@sha256:" + hexDigest, Ref{DockerDaemon, "", "a:1@sha256:" + hexDigest}, ""},
		{"ID in the engine", "docker-daemon:sha256:" + hexDigest, Ref{DockerDaemon, "", "sha256:" + hexDigest}, ""},
		{"name or ID in the engine", "docker-daemon:cafe", Ref{DockerDaemon, "", "cafe"}, ""},
		{"name of hexadecimal digits in the engine", "docker-daemon:cafe:1", Ref{DockerDaemon, "", "cafe:1"}, ""},
		{"stream", "-", Ref{Stdio, "-", ""}, ""},
		{"directory named as a stream", "oci:./-", Ref{OCI, "./-", ""}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			got, err := ParseRef(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("ParseRef(%q) = %+v, want %+v", tt.in, got, tt.want)
			}
			if tt.text == "" {
				tt.text = tt.in
			}
			if s := got.String(); s != tt.text {
				t.Errorf("String() = %q, want %q", s, tt.text)
			}
		})
	}
}

func TestParseRefRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("image", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("folder", 0o777); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, in, msg, hint string }{
		{"nothing", "", "is empty", ""},
		{"no path", "oci:", "names no file", "oci:FILE"},
		{"no path before a name", "docker-archive::a:1", "names no file", "docker-archive:FILE"},
		{"absolute path", "/tmp/x", `"/tmp/x" looks like a path`, "oci:/tmp/x"},
		{"relative path", "./x", "looks like a path", "docker-archive:./x"},
		{"tar", "x.tar", "looks like a file", "write docker-archive:x.tar"},
		{"tar that may be a repository", "x.tar.gz", "looks like a file", "docker://x.tar.gz"},
		{"tgz", "a:b.tgz", "looks like a file", "oci-archive:a:b.tgz"},
		{"existing file", "image", "names a file", "docker-archive:image"},
		{"existing directory", "folder", "names a directory", "write oci:folder"},
		{"existing directory that may be a repository", "folder", "names a directory", "docker://folder for a registry"},
		{"URL", "https://r.example.com/a:1", "is a URL", "docker://r.example.com/a:1"},
		{"upper case", "App", `"App" is not a registry reference`, "lower case"},
		{"bad digest", "a@sha256:12", "is not a registry reference", "DIGEST"},
		{"nothing after docker://", "docker://", "is not a registry reference", "NAME"},
		{"line feed", "a\nb", `"a\nb" is not a registry reference`, "NAME"},
		{"transport of others", "containers-storage:a:1", "transport containers-storage: is not supported", "docker-archive:"},
		{"directory of others", "dir:x", "transport dir: is not supported", "docker://dir:x"},
		{"path of the engine's API", "docker-daemon:../containers/x", `"../containers/x" is not the name of an image`, "NAME:TAG"},
		{"query of the engine's API", "docker-daemon:app?x=y", "is not the name of an image", "NAME:TAG"},
		{"upper case in the engine", "docker-daemon:App:1", "is not the name of an image", "docker-daemon:NAME:TAG"},
		{"URL of the engine", "docker-daemon://app:1", "is not the name of an image", "docker-daemon:NAME:TAG"},
		{"long name in the engine", "docker-daemon:" + strings.Repeat("a", 500), "is not the name of an image", "NAME:TAG"},
		{"engine and no name", "docker-daemon:", "docker-daemon:", "NAME:TAG"},
		{"command for the shell in a hint", "docker-daemon:a;rm:1", "docker-daemon:a;rm", "NAME:TAG"},
		{"layout on a stream", "oci:-", "is a directory", "oci-archive:-"},
		{"bad layout digest", "oci:dir:@sha256:xyz", "is not a digest", "@sha256:"},
		{"other algorithm", "oci:dir:@md5:12", "is not a digest", "@sha256:"},
		{"number with a sign", "docker-archive:f:@-1", "is not the number of an image", ":@0"},
		{"number with zeros", "docker-archive:f:@01", "is not the number of an image", ":@0"},
		{"number out of range", "docker-archive:f:@99999999999999999999", "is not the number of an image", ":@0"},
		{"digest in a saved file", "docker-archive:f:a@sha256:" + hexDigest, "is not NAME:TAG", ":@0"},
		{"NUL", "oci:a\x00b", `"oci:a\x00b" holds a NUL byte`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseRef(tt.in)
			var usage *UsageError
			if !errors.As(err, &usage) {
				t.Fatalf("ParseRef(%q) = %+v, %v, want a *UsageError", tt.in, got, err)
			}
			if !strings.Contains(usage.Error(), tt.msg) {
				t.Errorf("message %q, want one with %q", usage.Msg, tt.msg)
			}
			if !strings.Contains(usage.Hint, tt.hint) || tt.hint == "" && usage.Hint != "" {
				t.Errorf("hint %q, want one with %q", usage.Hint, tt.hint)
			}
		})
	}
}

func TestRefIsStdio(t *testing.T) {
	for in, want := range map[string]bool{
		"-": true, "docker-archive:-": true, "oci-archive:-:1": true, "docker-archive:./-": false, "oci:./-": false, "app": false,
	} {
		r, err := ParseRef(in)
		if err != nil {
			t.Fatal(err)
		}
		if r.IsStdio() != want {
			t.Errorf("%q: IsStdio() = %t, want %t", in, r.IsStdio(), want)
		}
	}
}

func TestRefDigest(t *testing.T) {
	for _, tt := range []struct {
		in string
		ok bool
	}{
		{"oci:d:@sha256:" + hexDigest, true},
		{"oci-archive:f@sha256:" + hexDigest, true},
		{"oci:d:a@sha256:" + hexDigest, false},
		{"docker-archive:f:@1", false},
		{"a@sha256:" + hexDigest, false},
	} {
		r, err := ParseRef(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := r.Digest(); ok != tt.ok || ok && d.String() != "sha256:"+hexDigest {
			t.Errorf("%q: Digest() = %s, %t", tt.in, d, ok)
		}
	}
}

func TestSameFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, f := range []string{"a.tar", "b.tar"} {
		if err := os.WriteFile(f, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"layout", "other"} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link("a.tar", "hard.tar"); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"soft.tar": "a.tar", "way": "layout"} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, a, b string
		want       bool
	}{
		{"same", "docker-archive:a.tar", "docker-archive:a.tar", true},
		{"other name in the file", "docker-archive:a.tar:x:1", "docker-archive:a.tar:y:1", true},
		{"other form", "docker-archive:a.tar", "oci-archive:a.tar", true},
		{"other spelling", "docker-archive:a.tar", "docker-archive:" + filepath.Join(dir, "layout/../a.tar"), true},
		{"hard link", "docker-archive:a.tar", "docker-archive:hard.tar", true},
		{"symbolic link", "docker-archive:a.tar", "docker-archive:soft.tar", true},
		{"another file", "docker-archive:a.tar", "docker-archive:b.tar", false},
		{"new file", "docker-archive:a.tar", "docker-archive:new.tar", false},
		{"neither is there", "docker-archive:new.tar", "docker-archive:./x/../new.tar", true},
		{"same entry of a layout", "oci:layout:1", "oci:way:1", true},
		{"another entry of a layout", "oci:layout:1", "oci:layout:2", false},
		{"same name in another layout", "oci:layout:1", "oci:other:1", false},
		{"layout and no name", "oci:layout", "oci:./layout", true},
		{"streams", "docker-archive:-", "docker-archive:-", false},
		{"bare streams", "-", "-", false},
		{"registry", "a:1", "a:1", false},
		{"registry and file", "docker://a.tar", "docker-archive:a.tar", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, errA := ParseRef(tt.a)
			b, errB := ParseRef(tt.b)
			if err := errors.Join(errA, errB); err != nil {
				t.Fatal(err)
			}
			if SameFile(a, b) != tt.want || SameFile(b, a) != tt.want {
				t.Errorf("SameFile(%s, %s) is not %t both ways", a, b, tt.want)
			}
		})
	}
}

func TestSameTag(t *testing.T) {
	for _, tt := range []struct {
		name, a, b string
		want       bool
	}{
		{"registry", "a:1", "docker.io/library/a:1", true},
		{"other tag of a registry", "a:1", "a:2", false},
		{"engine", "docker-daemon:a", "docker-daemon:docker.io/library/a:latest", true},
		{"other tag of the engine", "docker-daemon:a:1", "docker-daemon:a:2", false},
		{"hexadecimal digits", "docker-daemon:cafe", "docker-daemon:cafe:latest", true},
		{"ID", "docker-daemon:sha256:" + hexDigest, "docker-daemon:sha256:" + hexDigest, false},
		{"registry and engine", "a:1", "docker-daemon:a:1", false},
		{"files", "docker-archive:a:b:1", "docker-archive:a:b:1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, errA := ParseRef(tt.a)
			b, errB := ParseRef(tt.b)
			if err := errors.Join(errA, errB); err != nil {
				t.Fatal(err)
			}
			if SameTag(a, b) != tt.want || SameTag(b, a) != tt.want {
				t.Errorf("SameTag(%s, %s) is not %t both ways", a, b, tt.want)
			}
			if SameFile(a, b) && a.Transport == DockerDaemon {
				t.Errorf("%s and %s are one file", a, b)
			}
		})
	}
}

func FuzzParseRef(f *testing.F) {
	f.Chdir(f.TempDir())
	for _, s := range []string{
		"app:1", "docker://oci:1", "oci:dir@sha256:" + hexDigest, `oci:C:\a:1`, "docker-archive:f.tar:@2", "docker-archive:-:a",
		"-", "oci-archive:f:a@b:c", "docker-daemon:a:1", "docker-daemon:sha256:12", "docker-daemon:cafe", "docker-daemon:h:5000/a", "./x", "docker-archive:f:h:5000/b", "docker://ocer://i",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			if !errors.As(err, new(*UsageError)) {
				t.Fatalf("ParseRef(%q): %v is no *UsageError", s, err)
			}
			return
		}
		again, err := ParseRef(r.String())
		if err != nil || again != r {
			t.Fatalf("ParseRef(%q) = %+v, of its String %q: %+v, %v", s, r, r, again, err)
		}
	})
}
