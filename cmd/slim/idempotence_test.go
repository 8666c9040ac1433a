package main

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// TestSecondRun squashes the result of a squash: nothing changes.
func TestSecondRun(t *testing.T) {
	const junk = " | var/ var/cache/ var/cache/apk/ var/cache/apk/x=X"
	for _, c := range []struct {
		name  string
		app   recipe
		flags []string
	}{
		{"whole", recipe{layers: appLayers}, nil},
		{"default rules", recipe{layers: appLayers + junk}, nil},
		{"base", recipe{layers: appLayers}, []string{"--base", "HUB/base:1"}},
		{"base and rules", recipe{layers: appLayers + junk}, []string{"--base", "HUB/base:1"}},
		{"base-layers", recipe{layers: appLayers}, []string{"--base-layers", "1"}},
		{"junk of the base hidden", recipe{layers: baseLayers + junk + " | etc/a=1"}, []string{"--base-layers", "2", "--base-junk", "hide"}},
		{"nothing above the base", recipe{layers: baseLayers + " | x=1 | ✗x"}, []string{"--base", "HUB/base:1"}},
		{"zstd", recipe{layers: appLayers}, []string{"--compression", "zstd"}},
		{"zstd source", recipe{layers: appLayers, compression: "zstd"}, nil},
		{"none", recipe{layers: appLayers}, []string{"--compression", "none"}},
		{"history dropped", recipe{layers: appLayers}, []string{"--history", "drop"}},
		{"patterns", recipe{layers: appLayers}, []string{"--remove-path", "etc/b", "--keep-path", "etc/os"}},
		{"Docker", recipe{layers: appLayers, family: types.DockerManifestSchema2}, nil},
		{"links and attributes", recipe{layers: "d/(0700,u1,g2,t5) d/a=A{user.k=v} d/b⇒d/a{user.k=v} l→d/a p!p c!c1,3 | d/c⇒d/b{user.k=v} d/n(0600)"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			base := c.app
			base.layers = baseLayers
			h.push(base.build(), "base", "1")
			source := h.push(c.app.build(), "app", "1")
			args := []string{"squash"}
			for _, f := range c.flags {
				args = append(args, strings.ReplaceAll(f, "HUB", h.host))
			}
			first := s.done(append(args, source, h.ref("app:one"))...)
			again := s.done(append(args, source, h.ref("app:again"))...)
			second := s.done(append(args, h.ref("app:one"), h.ref("app:two"))...)
			if again.out != first.out {
				t.Errorf("the same run gave %q, then %q", first.out, again.out)
			}
			if second.out != first.out {
				t.Errorf("a run on the result gave %q, then %q:\n%s", first.out, second.out, second.err)
			}
			s.wantTexts(second, "nothing to do, copied")
			if one, two := h.pull("app", "one"), h.pull("app", "two"); string(one.manifest) != string(two.manifest) {
				t.Errorf("manifests\n%s\n%s", one.manifest, two.manifest)
			}
		})
	}
}

// TestSecondRunOfArchives compares whole files.
func TestSecondRunOfArchives(t *testing.T) {
	app := recipe{layers: appLayers}.build()
	for _, c := range []struct {
		name, source, first, second string
		flags                       []string
	}{
		{"docker-archive", "docker-archive:in.tar", "docker-archive:1.tar", "docker-archive:2.tar", nil},
		{"docker-archive above a base", "docker-archive:in.tar", "docker-archive:1.tar", "docker-archive:2.tar", []string{"--base-layers", "1"}},
		{"oci-archive", "oci-archive:oci.tar:1", "oci-archive:1.tar:1", "oci-archive:2.tar:1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			s.write("in.tar", app.dockerArchive("app:1"))
			s.write("oci.tar", app.layout("1").tar())
			first := s.done(append(append([]string{"squash"}, c.flags...), c.source, c.first)...)
			second := s.done(append(append([]string{"squash"}, c.flags...), strings.Replace(c.first, ":1.tar", ":./1.tar", 1), c.second)...)
			if first.out != second.out {
				t.Errorf("lines %q and %q", first.out, second.out)
			}
			if s.read("1.tar") != s.read("2.tar") {
				t.Error("the archives differ")
			}
		})
	}
}

// TestResultDependsOnContent gives one result for one image in several places.
func TestResultDependsOnContent(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: appLayers}.build()
	source := h.push(app, "app", "1")
	app.layout("1").save(s, "dir")
	want := strings.TrimPrefix(s.done("squash", source, h.ref("app:slim")).out, h.ref("app@"))
	for _, target := range []string{"oci:out:slim", "oci-archive:out.tar:slim"} {
		if got := s.done("squash", "oci:dir:1", target).out; got != want {
			t.Errorf("%s has %q, the registry %q", target, got, want)
		}
	}
}
