package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"slim/internal/filter"
	"slim/internal/image"
	"slim/internal/layer"
)

const squashHelp = `Usage:
  slim squash [flags] SOURCE TARGET

Rewrite an image: squash its layers into one, or only those above a base that
stays shared, and remove junk from the result.

SOURCE and TARGET are images:
  repo/name:tag, repo/name@sha256:…      in a registry (also docker://…)
  oci:DIR[:TAG]                          an OCI image layout
  oci-archive:FILE[:TAG]                 the same in a tar file
  docker-archive:FILE[:NAME:TAG]         as docker save and docker load use
  -                                      standard input or output

Examples:
  slim squash example.com/app:1 example.com/app:1-slim
  slim squash --base debian:12 example.com/app:1 example.com/app:1-slim
  docker save app:build | slim squash - - | docker load
  slim squash --dry-run docker-archive:app.tar docker-archive:app-slim.tar
`

// squashOptions are the flags of slim squash, checked.
type squashOptions struct {
	source, target image.Ref
	platforms      []string
	base           *image.Ref
	baseLayers     int
	rules          *filter.Rules
	baseJunk       string
	compression    string
	level          int
	history        string
	dryRun         bool
	verify         bool
	reportFile     string
	verbose        bool
	access
}

// rawFlags are the flags as they are written.
type rawFlags struct {
	base, remove           string
	removePaths, keepPaths []string
	ruleFiles              []string
}

func squashCommand(ctx context.Context, args []string, s stdio) error {
	o, raw := &squashOptions{access: access{stdio: s}}, &rawFlags{}
	fs := squashFlags(o, raw)
	if helped, err := parseFlags(fs, args, s.out, squashHelp); helped || err != nil {
		return err
	}
	if err := o.check(fs, raw); err != nil {
		return err
	}
	defer o.progress.close()
	w := newWork(o)
	defer w.close()
	r, err := w.squash(ctx)
	o.progress.close()
	if err != nil {
		return err
	}
	return r.print(o)
}

func squashFlags(o *squashOptions, raw *rawFlags) *pflag.FlagSet {
	fs := pflag.NewFlagSet("squash", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.StringVar(&raw.base, "base", "", "keep the layers of this image `REF`, found by their diffIDs")
	fs.IntVar(&o.baseLayers, "base-layers", -1, "keep the lowest `N` layers")
	fs.Lookup("base-layers").DefValue = "0"
	fs.StringArrayVar(&o.platforms, "platform", nil, "rewrite the image for `OS/ARCH[/VARIANT]` of an index (repeatable; all for Linux)")
	fs.StringVar(&raw.remove, "remove", "default", "rule presets to apply: a `LIST`, none, or +name and -name to adjust the default")
	fs.StringArrayVar(&raw.removePaths, "remove-path", nil, "remove what matches `GLOB` (repeatable)")
	fs.StringArrayVar(&raw.keepPaths, "keep-path", nil, "keep what matches `GLOB`, whatever removes it (repeatable)")
	fs.StringArrayVar(&raw.ruleFiles, "rules", nil, "patterns from a `FILE` in .dockerignore syntax (repeatable)")
	fs.StringVar(&o.baseJunk, "base-junk", "keep", "`MODE` keep leaves junk in the base, hide covers it with whiteouts, which saves no bytes")
	fs.StringVar(&o.compression, "compression", "auto", "`NAME` of the written layer's: auto, gzip, zstd or none")
	fs.IntVar(&o.level, "compression-level", 0, "`N` from 1 to 9 for gzip (6 if not given), from 1 to 22 for zstd (3)")
	fs.Lookup("compression-level").DefValue = "0"
	fs.StringVar(&o.history, "history", "keep", "`MODE` keep leaves the source's history entries, drop only the new one")
	fs.BoolVar(&o.verify, "verify", false, "read the target back and prove that it holds the source less what was removed")
	fs.BoolVar(&o.dryRun, "dry-run", false, "do all but write the target")
	fs.StringVar(&o.reportFile, "report", "", "write the report as JSON to `FILE` (-: standard output)")
	fs.BoolVarP(&o.verbose, "verbose", "v", false, "list every layer in the report")
	o.access.flags(fs)
	return fs
}

// check turns flags and arguments into options, or says what is wrong with them.
func (o *squashOptions) check(fs *pflag.FlagSet, raw *rawFlags) error {
	if fs.NArg() != 2 {
		return &image.UsageError{
			Msg:  fmt.Sprintf("slim squash needs SOURCE and TARGET, got %d arguments", fs.NArg()),
			Hint: "slim squash --help shows examples",
		}
	}
	for _, step := range []func() error{
		func() error { return o.checkRefs(fs.Arg(0), fs.Arg(1), raw.base) },
		func() error { return o.checkFlags(fs) },
		func() error { return o.checkRules(raw) },
		o.checkStreams,
		o.checkReport,
		func() error { return o.access.check(fs) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (o *squashOptions) checkRefs(source, target, base string) (err error) {
	if o.source, err = image.ParseRef(source); err != nil {
		return err
	}
	if o.target, err = image.ParseRef(target); err != nil {
		return err
	}
	if base != "" {
		ref, err := image.ParseRef(base)
		if err != nil {
			return err
		}
		o.base = &ref
	}
	if image.SameFile(o.source, o.target) {
		return &image.UsageError{
			Msg:  fmt.Sprintf("SOURCE and TARGET are the same: %s", o.target),
			Hint: "write to another file and rename it when you are content",
		}
	}
	if image.SameTag(o.source, o.target) {
		return &image.UsageError{
			Msg:  fmt.Sprintf("SOURCE and TARGET are the same tag: %s", o.target),
			Hint: "write to another tag: the source's image would lose its name",
		}
	}
	if o.base != nil && image.SameFile(*o.base, o.target) {
		return &image.UsageError{Msg: fmt.Sprintf("--base and TARGET are the same: %s", o.target)}
	}
	if o.base != nil && o.base.IsStdio() && o.source.IsStdio() {
		return &image.UsageError{Msg: "SOURCE and --base are both standard input"}
	}
	return image.CheckTarget(o.target)
}

func (o *squashOptions) checkFlags(fs *pflag.FlagSet) error {
	if err := checkChoices([]choice{
		{"base-junk", o.baseJunk, []string{"keep", "hide"}},
		{"compression", o.compression, []string{"auto", "gzip", "zstd", "none"}},
		{"history", o.history, []string{"keep", "drop"}},
	}); err != nil {
		return err
	}
	switch {
	case o.base != nil && fs.Changed("base-layers"):
		return &image.UsageError{Msg: "--base and --base-layers cannot be used together", Hint: "--base finds the number of layers by itself"}
	case fs.Changed("base-layers") && o.baseLayers < 0:
		return &image.UsageError{Msg: fmt.Sprintf("--base-layers %d is negative", o.baseLayers)}
	case o.baseJunk == "hide" && o.base == nil && o.baseLayers <= 0:
		return &image.UsageError{Msg: "--base-junk hide needs kept base layers", Hint: "add --base or --base-layers"}
	}
	return o.checkLevel(fs)
}

func (o *squashOptions) checkLevel(fs *pflag.FlagSet) error {
	if !fs.Changed("compression-level") {
		return nil
	}
	most := map[string]int{"gzip": 9, "zstd": 22}[o.compression]
	switch {
	case most == 0:
		return &image.UsageError{Msg: fmt.Sprintf("--compression-level has no meaning with --compression %s", o.compression), Hint: "add --compression gzip or --compression zstd"}
	case o.level < 1 || o.level > most:
		return &image.UsageError{Msg: fmt.Sprintf("--compression-level %d is not within 1 and %d, the levels of %s", o.level, most, o.compression)}
	}
	return nil
}

func (o *squashOptions) checkRules(raw *rawFlags) error {
	opts := filter.Options{Remove: raw.remove, RemovePaths: raw.removePaths, KeepPaths: raw.keepPaths}
	for _, name := range raw.ruleFiles {
		content, err := os.ReadFile(name)
		if err != nil {
			return &image.UsageError{Msg: fmt.Sprintf("--rules: %v", err)}
		}
		opts.Files = append(opts.Files, filter.File{Name: name, Content: content})
	}
	rules, err := filter.New(opts)
	if err != nil {
		usage := &image.UsageError{Msg: err.Error()}
		if strings.Contains(usage.Msg, "--remove ") {
			usage.Hint = "slim rules lists the presets"
		}
		return usage
	}
	o.rules = rules
	return nil
}

// checkStreams keeps image bytes off terminals and standard output for one use.
func (o *squashOptions) checkStreams() error {
	if err := o.checkInput("SOURCE", o.source); err != nil {
		return err
	}
	if !o.target.IsStdio() || o.dryRun {
		return nil
	}
	if o.verify {
		return &image.UsageError{Msg: "--verify cannot read standard output back", Hint: "write to a file, then load that"}
	}
	if o.reportFile == "-" {
		return &image.UsageError{Msg: "--report - and the target - both write to standard output", Hint: "--report FILE"}
	}
	if f, ok := o.stdio.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &image.UsageError{Msg: "TARGET is standard output, which is a terminal", Hint: "slim squash SOURCE - | docker load"}
	}
	return nil
}

// checkReport makes sure that the report can be written and names no image.
func (o *squashOptions) checkReport() error {
	if o.reportFile == "" || o.reportFile == "-" {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(o.reportFile)); err != nil || !info.IsDir() {
		return &image.UsageError{Msg: fmt.Sprintf("--report %q: there is no such folder", o.reportFile)}
	}
	report := image.Ref{Transport: image.DockerArchive, Path: o.reportFile}
	for _, ref := range []*image.Ref{&o.source, &o.target, o.base} {
		if ref != nil && image.SameFile(report, *ref) {
			return &image.UsageError{Msg: fmt.Sprintf("--report %q is the image %s", o.reportFile, ref), Hint: "write the report to another file"}
		}
	}
	return nil
}

// checkFamily refuses, before any work, a compression that the manifest of the
// result cannot name.
func (o *squashOptions) checkFamily(img *image.Image) error {
	if o.compression == "auto" {
		return nil
	}
	_, err := image.LayerMediaType(o.family(img), o.compression)
	return err
}

// toDocker reports whether the target is a docker-archive, which has no blobs of a
// registry.
func (o *squashOptions) toDocker() bool {
	return o.target.Transport.HoldsOne()
}

// compressionOf returns how the new layer is compressed, given the layers that it
// replaces.
func (o *squashOptions) compressionOf(img *image.Image, squashed []*layer.Layer) layer.Compression {
	if o.compression != "auto" {
		return layer.Compression(o.compression)
	}
	if o.toDocker() {
		return layer.None
	}
	notZstd := func(l *layer.Layer) bool { return l.Compression != layer.Zstd }
	_, err := image.LayerMediaType(o.family(img), string(layer.Zstd))
	if len(squashed) > 0 && !slices.ContainsFunc(squashed, notZstd) && err == nil {
		return layer.Zstd
	}
	return layer.Gzip
}

// changesImage reports whether a flag, or what the target needs, asks for
// something that an image whose layers may stay does not have.
func (o *squashOptions) changesImage(upper []*layer.Layer, img *image.Image, base boundary) (bool, error) {
	if o.history == "drop" {
		if n, err := img.HistoryAbove(base.kept, base.historyLength()); n > len(upper) || err != nil {
			return true, err
		}
	}
	if !o.toDocker() {
		if base.shares(img) || len(upper) > 0 && img.Manifest == nil && upper[0].Compression != o.compressionOf(img, upper) {
			return true, nil
		}
	}
	return o.compression != "auto" && len(upper) > 0 && upper[0].Compression != layer.Compression(o.compression), nil
}
