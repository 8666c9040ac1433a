package main

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"slim/internal/filter"
	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
)

const diffHelp = `Usage:
  slim diff [flags] A B

Compare two images as a container would see them: the final filesystem (type,
mode, owner, size, content, time, link target, device, extended attributes,
hardlink groups) and the config. How the files are spread over layers does not
count, so the history and the diffIDs of the config do not either.

A and B are images as slim squash --help lists them. The exit code is 0 if they
are the same, 3 if they differ.

Examples:
  slim diff example.com/app:1 example.com/app:1-slim
  slim diff --ignore mtime --ignore-path 'var/cache/**' oci:a docker-archive:b.tar
`

// diffOptions are the flags of slim diff, checked.
type diffOptions struct {
	a, b        image.Ref
	platform    string
	all, asJSON bool
	ignore      map[flatten.Field]bool
	ignorePaths *filter.Rules
	access
}

func diffCommand(ctx context.Context, args []string, s stdio) error {
	o := &diffOptions{access: access{stdio: s}}
	var ignore, ignorePaths []string
	fs := pflag.NewFlagSet("diff", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.BoolVar(&o.all, "all", false, "list every path, not only the first of each kind")
	fs.BoolVar(&o.asJSON, "json", false, "write the differences as JSON")
	fs.StringSliceVar(&ignore, "ignore", nil, "FIELDS|that do not count, comma separated")
	fs.StringArrayVar(&ignorePaths, "ignore-path", nil, "paths that do not count match `GLOB` (repeatable)")
	fs.StringVar(&o.platform, "platform", "", "OS/ARCH[/VARIANT]|select an image of an index")
	o.access.flags(fs)
	if helped, err := parseFlags(fs, args, s.out, diffHelp); helped || err != nil {
		return err
	}
	if err := o.check(fs, ignore, ignorePaths); err != nil {
		return err
	}
	defer o.progress.close()
	d, err := diff(ctx, o)
	o.progress.close()
	if err != nil {
		return err
	}
	return d.print(o)
}

func (o *diffOptions) check(fs *pflag.FlagSet, ignore, ignorePaths []string) (err error) {
	if fs.NArg() != 2 {
		return &image.UsageError{Msg: fmt.Sprintf("slim diff needs two images, got %d arguments", fs.NArg()), Hint: "slim diff --help shows examples"}
	}
	if o.a, err = image.ParseRef(fs.Arg(0)); err != nil {
		return err
	}
	if o.b, err = image.ParseRef(fs.Arg(1)); err != nil {
		return err
	}
	if o.a.IsStdio() && o.b.IsStdio() {
		return &image.UsageError{Msg: "A and B are both standard input"}
	}
	if err := o.checkInput("A", o.a); err != nil {
		return err
	}
	if err := o.checkInput("B", o.b); err != nil {
		return err
	}
	if err := o.checkIgnored(ignore, ignorePaths); err != nil {
		return err
	}
	return o.access.check(fs)
}

func (o *diffOptions) checkIgnored(ignore, ignorePaths []string) (err error) {
	o.ignore = map[flatten.Field]bool{}
	for _, f := range ignore {
		if !slices.Contains(flatten.Fields(), flatten.Field(f)) {
			return &image.UsageError{Msg: fmt.Sprintf("--ignore %q is no field", f), Hint: "the fields are " + fieldNames()}
		}
		o.ignore[flatten.Field(f)] = true
	}
	if o.ignorePaths, err = filter.New(filter.Options{Remove: "none", RemovePaths: ignorePaths}); err != nil {
		return &image.UsageError{Msg: strings.ReplaceAll(err.Error(), "--remove-path", "--ignore-path")}
	}
	return nil
}

func fieldNames() string {
	var names []string
	for _, f := range flatten.Fields() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// diff compares two images: open both, read the layers that they have in common
// once, replay both, compare.
func diff(ctx context.Context, o *diffOptions) (*differences, error) {
	a, err := o.open(ctx, o.a, o.platform)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := o.open(ctx, o.b, o.platform)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	d := &differences{A: imageReport{o.a.String(), digestOf(a.Image)}, B: imageReport{o.b.String(), digestOf(b.Image)}}
	if d.Config, err = image.CompareConfigs(a.Config, b.Config); err != nil {
		return nil, err
	}
	if slices.Equal(diffIDs(a.Image), diffIDs(b.Image)) {
		return d, nil
	}
	return d, d.files(ctx, o, a.Image, b.Image)
}

func digestOf(img *image.Image) string {
	if img.Manifest == nil {
		return ""
	}
	return img.Digest.String()
}

// files compares the filesystems of two images.
func (d *differences) files(ctx context.Context, o *diffOptions, a, b *image.Image) error {
	as, err := o.readHashed(ctx, a, nil)
	if err != nil {
		return nameLayer(a, err)
	}
	defer as.Close()
	known := map[string]*layer.Layer{}
	for i, l := range as.Layers {
		known[a.Layers[i].DiffID.String()] = l
	}
	bs, err := o.readHashed(ctx, b, known)
	if err != nil {
		return nameLayer(b, err)
	}
	defer bs.Close()
	common := commonLayers(a, b)
	fa, err := flatten.Replay(entriesOf(as), common)
	if err != nil {
		return nameLayer(a, err)
	}
	var fb *flatten.Replayed
	if common > 0 {
		fb, err = flatten.ReplayAbove(fa.Base, entriesOf(bs)[common:], common)
	} else {
		fb, err = flatten.Replay(entriesOf(bs), 0)
	}
	if err != nil {
		return nameLayer(b, err)
	}
	return d.collect(o, flatten.Compare(fa.Final, fb.Final, flatten.CompareOptions{Ignore: o.ignore, IgnorePath: o.pathIgnored}))
}

func (o *diffOptions) pathIgnored(p string) bool {
	return p != "" && o.ignorePaths.Match(p, 0, nil).Rule != ""
}

// readHashed reads the layers of an image without keeping contents; those that
// are known already are not read again.
func (a *access) readHashed(ctx context.Context, img *image.Image, known map[string]*layer.Layer) (*layer.Set, error) {
	blobs, err := blobsOf(img, len(img.Layers))
	if err != nil {
		return nil, err
	}
	for i := range blobs {
		blobs[i].Known = known[blobs[i].DiffID]
	}
	p := a.progress.reading(blobs)
	defer p.done()
	return layer.Read(ctx, p.blobs, layer.ReadOptions{TempDir: a.tempDir, Jobs: a.jobs})
}

// commonLayers counts the lowest layers that two images share.
func commonLayers(a, b *image.Image) int {
	n := 0
	for n < len(a.Layers) && n < len(b.Layers) && a.Layers[n].DiffID == b.Layers[n].DiffID {
		n++
	}
	return n
}

// collect gathers the changes by kind.
func (d *differences) collect(o *diffOptions, changes iter.Seq2[flatten.Change, error]) error {
	for c, err := range changes {
		if err != nil {
			return err
		}
		d.add(c, o.all || o.asJSON)
	}
	return nil
}
