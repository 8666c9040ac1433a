// Command demo writes a legacy image as a docker-archive: nineteen layers of a
// web shop on a Debian base, built line by line by somebody who never cleaned
// up. Caches, documentation, rewritten and deleted files, chmod and chown of
// what is already there, hardlinks, capabilities and markers of every kind are
// in it; no program in it runs.
//
// The archive depends on nothing but this source: no clock, no network, no
// random source but generators seeded by the names of the files.
//
// Usage: go run ./testdata/demo FILE
//
// Format: https://github.com/moby/docker-image-spec/blob/v1.2.0/v1.2.md
// ("Combined Image JSON + Filesystem Changeset Format"), as docker save wrote
// it before version 25.
package main

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// epoch is when the image's first layer was made.
var epoch = time.Date(2023, time.March, 14, 9, 26, 53, 0, time.UTC)

// repository and tag name the image in the archive.
const (
	repository = "example.com/shop"
	tag        = "legacy"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		os.Exit(1)
	}
}

// run writes the archive to file and one line about it to out.
func run(file string, out io.Writer) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	a := &archive{tw: tar.NewWriter(w)}
	if err := build(a, dockerfile); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s:%s: %d layers, %.1f MB\n", repository, tag, len(a.layers), float64(a.size)/1e6)
	return err
}

// step is one line of the Dockerfile: build is nil where it changes the config
// alone.
type step struct {
	createdBy string
	build     func(*layer)
}

// history is one entry of the config's history.
type history struct {
	Created    time.Time `json:"created"`
	CreatedBy  string    `json:"created_by"`
	EmptyLayer bool      `json:"empty_layer,omitempty"`
}

// build runs the steps and writes what they make.
func build(a *archive, steps []step) error {
	img := newImage()
	var past []history
	now := epoch
	for _, s := range steps {
		now = now.Add(3*time.Minute + 7*time.Second)
		past = append(past, history{Created: now, CreatedBy: s.createdBy, EmptyLayer: s.build == nil})
		if s.build == nil {
			continue
		}
		l := img.newLayer(now)
		s.build(l)
		content, err := l.close()
		if err != nil {
			return fmt.Errorf("%s: %w", s.createdBy, err)
		}
		if err := a.addLayer(content, now); err != nil {
			return err
		}
	}
	return a.close(now, past)
}

// archive writes the members of a docker-archive and remembers the layers.
type archive struct {
	tw      *tar.Writer
	diffIDs []string          // "sha256:…", bottom first
	layers  []string          // member names, bottom first
	first   map[string]string // diffID → ID of the first layer with it
	parent  string            // ID of the layer before
	size    int64             // bytes of the layers' tars
}

// addLayer writes one layer as the three files that docker save gives it. A
// layer whose bytes are there already is a symlink to them.
func (a *archive) addLayer(content []byte, created time.Time) error {
	diffID := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(a.parent+" "+diffID)))
	doc, err := json.Marshal(map[string]any{"id": id, "parent": a.parent, "created": created, "os": "linux"})
	if err != nil {
		return err
	}
	a.diffIDs = append(a.diffIDs, diffID)
	a.layers = append(a.layers, id+"/layer.tar")
	a.parent = id
	a.size += int64(len(content))

	if err := a.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: id + "/", Mode: 0o755, ModTime: created}); err != nil {
		return err
	}
	if err := a.member(id+"/VERSION", []byte("1.0"), created); err != nil {
		return err
	}
	if err := a.member(id+"/json", doc, created); err != nil {
		return err
	}
	if other, ok := a.first[diffID]; ok {
		return a.tw.WriteHeader(&tar.Header{
			Typeflag: tar.TypeSymlink, Name: id + "/layer.tar", Linkname: "../" + other + "/layer.tar",
			Mode: 0o777, ModTime: created,
		})
	}
	if a.first == nil {
		a.first = map[string]string{}
	}
	a.first[diffID] = id
	return a.member(id+"/layer.tar", content, created)
}

// close writes the config, manifest.json and repositories.
func (a *archive) close(created time.Time, past []history) error {
	config, err := json.Marshal(imageConfig(created, past, a.diffIDs))
	if err != nil {
		return err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": configName, "RepoTags": []string{repository + ":" + tag}, "Layers": a.layers,
	}})
	if err != nil {
		return err
	}
	repositories, err := json.Marshal(map[string]map[string]string{repository: {tag: a.parent}})
	if err != nil {
		return err
	}
	if err := a.member(configName, config, created); err != nil {
		return err
	}
	if err := a.member("manifest.json", append(manifest, '\n'), time.Unix(0, 0)); err != nil {
		return err
	}
	if err := a.member("repositories", append(repositories, '\n'), time.Unix(0, 0)); err != nil {
		return err
	}
	return a.tw.Close()
}

func (a *archive) member(name string, content []byte, created time.Time) error {
	hdr := tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: created}
	if err := a.tw.WriteHeader(&hdr); err != nil {
		return err
	}
	_, err := a.tw.Write(content)
	return err
}

// imageConfig is what the engine stored for the Dockerfile, with the fields
// that only Docker knows.
func imageConfig(created time.Time, past []history, diffIDs []string) map[string]any {
	return map[string]any{
		"architecture":   "amd64",
		"os":             "linux",
		"created":        created,
		"author":         "Shop Team <shop@example.com>",
		"docker_version": "20.10.24",
		"container":      "9d1f0c2f6f6f4d37c8a3ee4a1c2b7f90a6d7e1e2c3b4a5968778695a4b3c2d1e",
		"config": map[string]any{
			"Hostname":     "",
			"Domainname":   "",
			"User":         "app",
			"AttachStdin":  false,
			"AttachStdout": false,
			"AttachStderr": false,
			"ExposedPorts": map[string]any{"80/tcp": map[string]any{}, "8080/tcp": map[string]any{}},
			"Tty":          false,
			"OpenStdin":    false,
			"StdinOnce":    false,
			"Env": []string{
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
				"LANG=C.UTF-8",
				"NODE_ENV=production",
				"SHOP_HOME=/srv/shop",
			},
			"Cmd":        []string{"--config", "/etc/shop/shop.conf"},
			"Entrypoint": []string{"/usr/local/bin/docker-entrypoint.sh", "shopd"},
			"Healthcheck": map[string]any{
				"Test":          []string{"CMD-SHELL", "curl -fsS http://127.0.0.1:8080/health || exit 1"},
				"Interval":      30 * time.Second,
				"Timeout":       5 * time.Second,
				"StartPeriod":   20 * time.Second,
				"StartInterval": 2 * time.Second,
				"Retries":       3,
			},
			"ArgsEscaped": true,
			"Image":       "sha256:4f2c1d9f7b6f2f2f0a6d3e0b54c1b1f3f5a9d8c7b6e5f4030201009f8e7d6c5b",
			"Volumes":     map[string]any{"/srv/shop/uploads": map[string]any{}},
			"WorkingDir":  "/srv/shop",
			"OnBuild":     nil,
			"Labels": map[string]string{
				"maintainer":                       "Shop Team <shop@example.com>",
				"org.opencontainers.image.title":   "shop",
				"org.opencontainers.image.version": "4.2.1",
				"com.example.shop.notes":           "quotes \" and <angle> & ampersand",
			},
			"StopSignal": "SIGQUIT",
			"Shell":      []string{"/bin/bash", "-o", "pipefail", "-c"},
		},
		"history": past,
		"rootfs":  map[string]any{"type": "layers", "diff_ids": diffIDs},
	}
}
