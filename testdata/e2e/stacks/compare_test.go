package stacks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"slim/internal/tartest"
)

// difference is a stack that an engine shows in another way than it should.
type difference struct {
	stack         stack
	image, engine string
	text          string
}

// check makes the images of a batch and compares what the engines show. An error
// is one of a whole image, such as that an engine refuses to unpack it.
func (l *lab) check(b batch) ([]difference, error) {
	l.batches++
	if !b.root {
		b.stacks = append(slices.Clone(b.stacks), b.ballast())
	}
	dir := filepath.Join(l.dir, strconv.Itoa(l.batches))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	images, err := l.store(b, dir)
	if err != nil {
		return nil, err
	}
	reference, err := l.list(l.engines[0], images[0])
	if err != nil {
		return nil, fmt.Errorf("the reference by %s: %w", l.engines[0].name, err)
	}
	images = images[1:]
	lists := make([][]string, len(l.engines))
	var group errgroup.Group
	for e, engine := range l.engines {
		lists[e] = make([]string, len(images))
		group.Go(func() error {
			for i, img := range images {
				if img.kind == "source" && b.sourceIn != nil && !slices.Contains(b.sourceIn, engine.name) {
					continue
				}
				var err error
				if lists[e][i], err = l.list(engine, img); err != nil {
					return fmt.Errorf("%s by %s: %w", img.kind, engine.name, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var differences []difference
	for i, img := range images {
		for e, engine := range l.engines {
			if lists[e][i] == "" {
				continue
			}
			differences = append(differences, b.compare(reference, lists[e][i], img.kind, engine.name)...)
		}
	}
	return differences, os.RemoveAll(dir)
}

// store writes the reference, the source and slim's results to dir.
func (l *lab) store(b batch, dir string) ([]stored, error) {
	layers := map[string][][]tartest.Entry{"reference": b.reference(), "source": b.source()}
	source := filepath.Join(dir, "source")
	if err := writeLayout(source, layers); err != nil {
		return nil, fmt.Errorf("writing the source: %w", err)
	}
	images := []stored{{kind: "reference", gzip: source + ":reference"}}
	i := l.stored(dir, "source", "source", "source", "source.docker.tar")
	if err := writeArchive(i.docker, i.name, layers["source"]); err != nil {
		return nil, fmt.Errorf("writing the source: %w", err)
	}
	images = append(images, i)
	for _, kind := range []string{"whole", "above"} {
		i := l.stored(dir, kind, "gzip", "zstd", kind+".oci.tar")
		boundary, flags := 0, []string{"squash", "-q", "--remove", "none"}
		if kind == "above" {
			boundary, flags = b.boundary, append(flags, "--base-layers", strconv.Itoa(b.boundary))
		}
		for _, form := range [][]string{
			{"--compression", "gzip", "oci:" + source + ":source", "oci:" + i.gzip},
			{"--compression", "zstd", "oci:" + source + ":source", "oci:" + i.zstd},
			{"--compression", "zstd", "oci:" + source + ":source", "oci-archive:" + i.containerd + ":" + i.name},
			{"oci:" + source + ":source", "docker-archive:" + i.docker + ":" + i.name},
		} {
			if _, err := l.command(l.slim, slices.Concat(flags, form)...); err != nil {
				return nil, err
			}
		}
		if err := checkLayers(dir, kind, boundary); err != nil {
			return nil, err
		}
		images = append(images, i)
	}
	return images, nil
}

// stored names the forms of an image.
func (l *lab) stored(dir, kind, gzip, zstd, containerd string) stored {
	return stored{
		kind: kind, name: fmt.Sprintf("localhost/stacks-%d:%s", l.batches, kind),
		gzip: filepath.Join(dir, gzip) + ":" + kind, zstd: filepath.Join(dir, zstd) + ":" + kind,
		docker: filepath.Join(dir, kind+".docker.tar"), containerd: filepath.Join(dir, containerd),
	}
}

// list returns the listing of the tree that an engine shows.
func (l *lab) list(e engine, i stored) (string, error) {
	i.dir = filepath.Join(l.dir, fmt.Sprintf("tree-%s-%d-%s", strings.ReplaceAll(e.name, "/", "-"), l.batches, i.kind))
	list := ""
	err := e.tree(i, func(dir string) (err error) {
		list, err = l.command(l.listtree, "-no-root-mtime", dir)
		return err
	})
	if err != nil {
		return "", err
	}
	return list, os.RemoveAll(i.dir)
}

// compare returns the stacks whose listings differ.
func (b batch) compare(reference, list, image, engine string) []difference {
	var out []difference
	want, got := b.split(reference), b.split(list)
	for i, s := range b.stacks {
		if slices.Contains(s.except, image+" "+engine) {
			continue
		}
		if text := diff(want[i], got[i]); text != "" {
			out = append(out, difference{s, image, engine, text})
		}
	}
	if text := diff(want[len(b.stacks)], got[len(b.stacks)]); text != "" {
		out = append(out, difference{stack{name: "outside of all stacks"}, image, engine, text})
	}
	return out
}

// split returns the lines of each stack, and then those of none.
func (b batch) split(list string) [][]string {
	out := make([][]string, len(b.stacks)+1)
	index := map[string]int{}
	for i := range b.stacks {
		index[strings.TrimSuffix(b.prefix(i), "/")] = i
	}
	for line := range strings.SplitSeq(list, "\n") {
		// The specification leaves the root's attributes open.
		if strings.HasPrefix(line, `"." `) {
			continue
		}
		dir, _, _ := strings.Cut(strings.TrimPrefix(line, `"`), `"`)
		dir, _, _ = strings.Cut(dir, "/")
		i, ok := index[dir]
		if b.root {
			i = 0
		} else if !ok {
			i = len(b.stacks)
		}
		out[i] = append(out[i], line)
	}
	return out
}

// diff returns the lines of only one side.
func diff(want, got []string) string {
	var out []string
	for _, line := range want {
		if !slices.Contains(got, line) {
			out = append(out, "  - "+line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			out = append(out, "  + "+line)
		}
	}
	return strings.Join(out, "\n")
}
