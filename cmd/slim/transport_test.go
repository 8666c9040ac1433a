package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// sourceForms put an image where slim reads it; they return SOURCE and what is on
// standard input.
var sourceForms = map[string]func(*sandbox, *hub, *fixture) (source string, stdin []byte){
	"registry":  func(_ *sandbox, h *hub, f *fixture) (string, []byte) { return h.push(f, "app", "1"), nil },
	"docker://": func(_ *sandbox, h *hub, f *fixture) (string, []byte) { return "docker://" + h.push(f, "app", "1"), nil },
	"digest": func(_ *sandbox, h *hub, f *fixture) (string, []byte) {
		return strings.TrimSuffix(h.push(f, "app", "1"), ":1") + "@" + sha256Of(f.manifest), nil
	},
	"oci": func(s *sandbox, _ *hub, f *fixture) (string, []byte) {
		f.layout("1").save(s, "in")
		return "oci:in:1", nil
	},
	"oci alone": func(s *sandbox, _ *hub, f *fixture) (string, []byte) {
		f.layout("1").save(s, "in")
		return "oci:in", nil
	},
	"oci digest": func(s *sandbox, _ *hub, f *fixture) (string, []byte) {
		f.layout("1").save(s, "in")
		return "oci:in@" + sha256Of(f.manifest), nil
	},
	"oci-archive": func(s *sandbox, _ *hub, f *fixture) (string, []byte) {
		s.write("in.tar", f.layout("1").tar())
		return "oci-archive:in.tar:1", nil
	},
	"oci-archive gzip": func(s *sandbox, _ *hub, f *fixture) (string, []byte) {
		s.write("in.tar", compressed("gzip", f.layout("1").tar()))
		return "oci-archive:in.tar:1", nil
	},
	"docker-archive": func(s *sandbox, _ *hub, f *fixture) (string, []byte) {
		s.write("in.tar", f.dockerArchive("example.com/app:1"))
		return "docker-archive:in.tar", nil
	},
	"docker-archive name": func(s *sandbox, _ *hub, f *fixture) (string, []byte) {
		s.write("in.tar", dockerArchiveOf(savedImage{f, []string{"example.com/app:1"}}, savedImage{recipe{layers: "other=1"}.build(), []string{"other:1"}}))
		return "docker-archive:in.tar:example.com/app:1", nil
	},
	"docker-archive number": func(s *sandbox, _ *hub, f *fixture) (string, []byte) {
		s.write("in.tar", dockerArchiveOf(savedImage{recipe{layers: "other=1"}.build(), []string{"other:1"}}, savedImage{f, []string{"example.com/app:1"}}))
		return "docker-archive:in.tar:@1", nil
	},
	"docker-archive of Docker 25": func(s *sandbox, _ *hub, f *fixture) (string, []byte) {
		s.write("in.tar", f.dockerArchive25("example.com/app:1"))
		return "docker-archive:in.tar", nil
	},
	"- docker-archive": func(_ *sandbox, _ *hub, f *fixture) (string, []byte) {
		return "-", f.dockerArchive("example.com/app:1")
	},
	"- docker-archive gzip": func(_ *sandbox, _ *hub, f *fixture) (string, []byte) {
		return "-", compressed("gzip", f.dockerArchive("example.com/app:1"))
	},
	"- docker-archive zstd": func(_ *sandbox, _ *hub, f *fixture) (string, []byte) {
		return "-", compressed("zstd", f.dockerArchive("example.com/app:1"))
	},
	"- Docker 25": func(_ *sandbox, _ *hub, f *fixture) (string, []byte) {
		return "-", f.dockerArchive25("example.com/app:1")
	},
	"- oci-archive": func(_ *sandbox, _ *hub, f *fixture) (string, []byte) { return "-", f.layout("1").tar() },
	"- oci-archive gzip": func(_ *sandbox, _ *hub, f *fixture) (string, []byte) {
		return "-", compressed("gzip", f.layout("1").tar())
	},
	"- oci-archive zstd": func(_ *sandbox, _ *hub, f *fixture) (string, []byte) {
		return "-", compressed("zstd", f.layout("1").tar())
	},
	"docker-archive:-": func(_ *sandbox, _ *hub, f *fixture) (string, []byte) {
		return "docker-archive:-:example.com/app:1", f.dockerArchive("example.com/app:1")
	},
	"oci-archive:-": func(_ *sandbox, _ *hub, f *fixture) (string, []byte) { return "oci-archive:-:1", f.layout("1").tar() },
}

// targetForms read back what slim wrote there; line is what it printed for it.
var targetForms = map[string]struct {
	target string
	read   func(*sandbox, *hub, outcome) (got *stored, line string)
}{
	"registry": {"HUB/out:slim", func(_ *sandbox, h *hub, o outcome) (*stored, string) {
		i := h.pull("out", "slim")
		return i, h.ref("out@") + i.digest()
	}},
	"oci": {"oci:out:slim", func(s *sandbox, _ *hub, _ outcome) (*stored, string) {
		i := s.layoutImage("out", "slim")
		return i, i.digest()
	}},
	"oci-archive": {"oci-archive:out.tar:slim", func(s *sandbox, _ *hub, _ outcome) (*stored, string) {
		i := ofOCIArchive(s.t, []byte(s.read("out.tar")), "slim")
		return i, i.digest()
	}},
	"docker-archive": {"docker-archive:out.tar:out:slim", func(s *sandbox, _ *hub, _ outcome) (*stored, string) {
		i := ofDockerArchive(s.t, []byte(s.read("out.tar")))
		if !slices.Equal(i.tags, []string{"out:slim"}) {
			s.t.Errorf("names %q in the archive, want out:slim", i.tags)
		}
		return i, i.digest()
	}},
	"-": {"-", func(s *sandbox, _ *hub, o outcome) (*stored, string) {
		i := ofDockerArchive(s.t, []byte(o.out))
		return i, i.digest()
	}},
	"docker-archive:-": {"docker-archive:-:out:slim", func(s *sandbox, _ *hub, o outcome) (*stored, string) {
		i := ofDockerArchive(s.t, []byte(o.out))
		if !slices.Equal(i.tags, []string{"out:slim"}) {
			s.t.Errorf("names %q in the archive, want out:slim", i.tags)
		}
		return i, i.digest()
	}},
	"oci-archive:-": {"oci-archive:-:slim", func(s *sandbox, _ *hub, o outcome) (*stored, string) {
		i := ofOCIArchive(s.t, []byte(o.out), "slim")
		return i, i.digest()
	}},
}

func TestTransports(t *testing.T) {
	app := recipe{layers: appLayers}.build()
	transports := []string{"registry", "oci", "oci-archive", "docker-archive", "- docker-archive", "- oci-archive"}
	for from, put := range sourceForms {
		for to, form := range targetForms {
			// Other ways to name or pack a source are told apart when it is opened.
			if to != "oci" && !slices.Contains(transports, from) {
				continue
			}
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				s, h := newSandbox(t), newHub(t)
				source, stdin := put(s, h, app)
				o := s.wantCode(exitDone, s.pipe(stdin, "squash", source, strings.ReplaceAll(form.target, "HUB", h.host)))
				got, line := form.read(s, h, o)
				got.wantLayers(t, squashed)
				on := o.out
				if strings.HasSuffix(form.target, "-") || strings.Contains(form.target, ":-:") {
					on = o.err
				}
				if !strings.HasSuffix("\n"+on, "\n"+line+"\n") {
					t.Errorf("the line %q is not the last of %q", line, on)
				}
			})
		}
	}
}

// TestKeptLayersAcrossTransports squashes above a base from every kind of source
// into every kind of target.
func TestKeptLayersAcrossTransports(t *testing.T) {
	app := recipe{layers: appLayers}.build()
	for _, from := range []string{"registry", "oci", "oci-archive", "docker-archive", "docker-archive of Docker 25", "- oci-archive zstd"} {
		for to, form := range targetForms {
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				s, h := newSandbox(t), newHub(t)
				source, stdin := sourceForms[from](s, h, app)
				o := s.wantCode(exitDone, s.pipe(stdin, "squash", "--base-layers", "1", source, strings.ReplaceAll(form.target, "HUB", h.host)))
				got, _ := form.read(s, h, o)
				got.wantLayers(t, baseLayers, aboveBase)
			})
		}
	}
}

func TestStdoutKeepsTheNames(t *testing.T) {
	app := recipe{layers: appLayers}.build()
	for _, c := range []struct {
		name   string
		source string
		stdin  []byte
		want   []string
	}{
		{"docker-archive", "-", app.dockerArchive("example.com/app:1", "app:2"), []string{"example.com/app:1", "app:2"}},
		{"no names", "-", app.dockerArchive(), nil},
		{"oci-archive with a full name", "-", app.layout("example.com/app:1").tar(), []string{"example.com/app:1"}},
		{"oci-archive with a tag", "-", app.layout("1").tar(), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			o := s.wantCode(exitDone, s.pipe(c.stdin, "squash", c.source, "-"))
			if got := ofDockerArchive(t, []byte(o.out)); !slices.Equal(got.tags, c.want) {
				t.Errorf("names %q, want %q", got.tags, c.want)
			}
		})
	}
	t.Run("registry", func(t *testing.T) {
		s, h := newSandbox(t), newHub(t)
		source := h.push(app, "app", "1")
		if got := ofDockerArchive(t, []byte(s.done("squash", source, "-").out)); !slices.Equal(got.tags, []string{source}) {
			t.Errorf("names %q, want %q", got.tags, source)
		}
	})
}

func TestSeveralImagesInAnArchive(t *testing.T) {
	s := newSandbox(t)
	one, two := recipe{layers: "a=1 | b=2"}.build(), recipe{layers: "c=3 | d=4"}.build()
	archive := dockerArchiveOf(savedImage{one, []string{"one:1"}}, savedImage{two, []string{"two:1"}})
	s.write("in.tar", archive)
	s.fails(exitUsage, []string{`the archive holds several images: "one:1", "two:1"`, "slim: hint: select one: docker-archive:FILE:NAME:TAG"},
		"squash", "docker-archive:in.tar", "docker-archive:out.tar")
	o := s.wantCode(exitUsage, s.pipe(archive, "squash", "-", "docker-archive:out.tar"))
	s.wantTexts(o, "several images")
	s.fails(exitUsage, []string{`no image "three:1"`, `slim: hint: it holds "one:1", "two:1"`}, "squash", "docker-archive:in.tar:three:1", "docker-archive:out.tar")
	s.done("squash", "docker-archive:in.tar:two:1", "docker-archive:out.tar")
	got := ofDockerArchive(t, []byte(s.read("out.tar")))
	got.wantLayers(t, "c=3 d=4")
	if !slices.Equal(got.tags, []string{"two:1"}) {
		t.Errorf("names %q, want two:1", got.tags)
	}
}

// TestBaseOfAnArchive takes kept layers from the base, since a classic archive
// has no registry blobs.
func TestBaseOfAnArchive(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	base := recipe{layers: baseLayers, family: types.DockerManifestSchema2, descriptors: baseDescriptor}.build()
	h.push(base, "base", "1")
	archive := recipe{layers: appLayers}.build().dockerArchive("app:1")
	s.wantCode(exitDone, s.pipe(archive, "squash", "--base", h.ref("base:1"), "-", h.ref("app:slim")))
	got := h.pull("app", "slim")
	got.wantLayers(t, baseLayers, aboveBase)
	if string(got.layers[0]) != base.descriptors[0] {
		t.Errorf("descriptor of the kept layer\n%s\nwant\n%s", got.layers[0], base.descriptors[0])
	}
	o := s.wantCode(exitDone, s.pipe(archive, "squash", "--base-layers", "1", "-", h.ref("app:counted")))
	s.wantTexts(o, "warning: the base layers have no registry blobs", "--base names an image")
}

// TestLayoutIsAdded keeps what else a layout holds.
func TestLayoutIsAdded(t *testing.T) {
	s := newSandbox(t)
	app := recipe{layers: appLayers}.build()
	app.layout("1").save(s, "dir")
	s.done("squash", "oci:dir:1", "oci:dir:slim")
	s.layoutImage("dir", "slim").wantLayers(t, squashed)
	if got := s.layoutImage("dir", "1"); got.digest() != sha256Of(app.manifest) {
		t.Errorf("the source is now %s", got.digest())
	}
	s.write("full/file", []byte("x"))
	s.fails(exitFailed, []string{`"full" is not empty and no OCI image layout`, "slim: hint: "}, "squash", "oci:dir:1", "oci:full:1")
}
