// Package stacks_test runs stacks of layers through slim and through real
// engines, and compares the trees that the engines show of the source and of
// the results.
//
// Many stacks share an image, each below a folder of its own, so that every
// tree is unpacked by few calls: umoci unpacks in place, containers/storage (by
// skopeo and buildah), a Docker engine and containerd apply every layer to an
// empty folder and mount an overlay. A path is compared in type, mode, owner,
// size, modification time, extended attributes, content and hardlink group.
//
// Usage, as root on Debian 12:
//
//	go test -count=1 ./testdata/e2e/stacks -args [-slim FILE] [-work DIR] [-seed N] [-stacks N]
package stacks_test

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"slim/internal/tartest"
)

var (
	slimFlag   = flag.String("slim", "", "the slim binary, relative to the repository's root; built if not given")
	workFlag   = flag.String("work", "/var/tmp/slim-stacks", "folder of images and engines, relative to the repository's root")
	seedFlag   = flag.Int64("seed", 20240229, "seed of the random stacks")
	stacksFlag = flag.Int("stacks", 100, "random stacks in each of the images")
)

// stack is what one folder of an image holds.
type stack struct {
	name string
	// layers are in the notation of tartest, bottom first.
	layers string
	// want is the one layer that holds the same tree. Without it every tree is
	// compared with the one that umoci makes of the source.
	want string
	// except are the pairs of image and engine that are not compared, as
	// "source umoci".
	except []string
}

// batch is an image of stacks.
type batch struct {
	name   string
	stacks []stack
	// boundary is how many of the source's height layers stay below what is
	// squashed.
	boundary, height int
	// sourceIn are the engines that unpack the source, nil for all.
	sourceIn []string
	// root puts the only stack at the image's root, not below a folder.
	root bool
}

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "stacks: error: unexpected argument %q: flags of the tests follow -args, since -work is one of go test too\n", flag.Arg(0))
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// root returns the repository's root.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../..")
}

// fromRoot returns name as an absolute name.
func fromRoot(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(root(), name)
}

func TestStacks(t *testing.T) {
	l := newLab(t)
	t.Run("rows", func(t *testing.T) {
		for _, b := range rowBatches {
			t.Run(b.name, func(t *testing.T) { l.run(t, b) })
		}
	})
	t.Run("random", func(t *testing.T) {
		t.Logf("-seed %d", *seedFlag)
		for _, b := range randomBatches(rand.New(rand.NewSource(*seedFlag))) {
			t.Run(b.name, func(t *testing.T) { l.run(t, b) })
		}
	})
}

// randomBatches returns the images of random stacks, of several heights and
// boundaries.
func randomBatches(r *rand.Rand) []batch {
	var batches []batch
	for _, size := range []struct{ layers, boundary int }{{5, 1}, {5, 2}, {5, 3}, {5, 4}, {7, 3}, {9, 5}} {
		b := batch{name: fmt.Sprintf("%d of %d layers", size.boundary, size.layers), boundary: size.boundary}
		for range *stacksFlag {
			layers := spread(r, retime(r, agreed(tartest.Random(r, true))), size.layers)
			b.stacks = append(b.stacks, stack{name: fmt.Sprint("random ", len(b.stacks)), layers: layers})
		}
		batches = append(batches, b)
	}
	return batches
}

// retime gives some layers another modification time, so that entries differ in
// nothing else.
func retime(r *rand.Rand, layers string) string {
	var out []string
	for layer := range strings.SplitSeq(layers, "|") {
		tokens := strings.Fields(layer)
		if r.Intn(3) == 0 {
			for i, token := range tokens {
				if !strings.HasPrefix(token, "✗") && !strings.HasSuffix(token, "◊") && !strings.Contains(token, "(") {
					tokens[i] = token + "(t7)"
				}
			}
		}
		out = append(out, strings.Join(tokens, " "))
	}
	return strings.Join(out, " | ")
}

// spread puts empty layers between those of a stack, so that it has n.
func spread(r *rand.Rand, layers string, n int) string {
	full := strings.Split(layers, "|")
	positions := r.Perm(n)[:len(full)]
	slices.Sort(positions)
	out := make([]string, n)
	for i, p := range positions {
		out[p] = strings.TrimSpace(full[i])
	}
	return strings.Join(out, " | ")
}

// run checks a batch and reports every difference with its stack.
func (l *lab) run(t *testing.T, b batch) {
	t.Helper()
	for _, s := range b.stacks {
		b.height = max(b.height, 1+strings.Count(s.layers, "|"))
	}
	differences, err := l.check(b)
	if err != nil {
		culprit, err := l.isolate(b, err)
		for _, s := range culprit.stacks {
			t.Logf("%s: %s", s.name, strconv.QuoteToGraphic(s.layers))
		}
		t.Fatalf("%d stacks of %d, boundary %d: %v", len(culprit.stacks), len(b.stacks), b.boundary, err)
	}
	// A stack that all show in the same wrong way is one report.
	where := map[string][]string{}
	var texts []string
	for _, d := range differences {
		text := fmt.Sprintf("%s, boundary %d: %s\n%s", d.stack.name, b.boundary, strconv.QuoteToGraphic(d.stack.layers), d.text)
		if where[text] == nil {
			texts = append(texts, text)
		}
		where[text] = append(where[text], d.image+" by "+d.engine)
	}
	for _, text := range texts[:min(len(texts), 20)] {
		t.Errorf("%s\n  shown of: %s", text, strings.Join(where[text], ", "))
	}
	if n := len(texts) - 20; n > 0 {
		t.Errorf("%d more differences", n)
	}
}

// isolate halves a batch that fails with err as long as a half fails too.
func (l *lab) isolate(b batch, err error) (batch, error) {
	for len(b.stacks) > 1 {
		left, right := b, b
		left.stacks, right.stacks = b.stacks[:len(b.stacks)/2], b.stacks[len(b.stacks)/2:]
		if _, leftErr := l.check(left); leftErr != nil {
			b, err = left, leftErr
		} else if _, rightErr := l.check(right); rightErr != nil {
			b, err = right, rightErr
		} else {
			break
		}
	}
	return b, err
}
