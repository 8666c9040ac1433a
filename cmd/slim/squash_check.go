package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"slim/internal/filter"
	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
)

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
		func() error { return o.checkDocuments(raw) },
		func() error { return o.checkSize(raw.maxLayer) },
		o.checkSavings,
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
	if o.baseAuto = base == "auto"; base != "" && !o.baseAuto {
		ref, err := image.ParseRef(base)
		if err != nil {
			return err
		}
		o.base = &ref
	}
	if image.SameFile(o.source, o.target) {
		return errSame(o.target)
	}
	if image.SameTag(o.source, o.target) && !o.inPlace {
		return &image.UsageError{
			Msg:  fmt.Sprintf("SOURCE and TARGET are the same tag: %s", o.target),
			Hint: "write to another tag, or add --in-place: the source's image loses its name then",
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

// errSame refuses to replace what is read.
func errSame(target image.Ref) error {
	return &image.UsageError{
		Msg:  fmt.Sprintf("SOURCE and TARGET are the same: %s", target),
		Hint: "write under another name, and rename it when you are content",
	}
}

func (o *squashOptions) checkFlags(fs *pflag.FlagSet) error {
	if err := checkChoices([]choice{
		{"base-junk", o.baseJunk, []string{"keep", "hide"}},
		{"compression", o.compression, []string{"auto", "gzip", "zstd", "none"}},
		{"history", o.history, []string{"keep", "drop"}},
		{"format", o.format, []string{"source", "oci", "docker"}},
		{"attestations", o.attestations, []string{"drop", "fail"}},
	}); err != nil {
		return err
	}
	switch {
	case (o.base != nil || o.baseAuto) && fs.Changed("base-layers"):
		return &image.UsageError{Msg: "--base and --base-layers cannot be used together", Hint: "--base finds the number of layers by itself"}
	case o.format == "docker" && o.compression == "zstd":
		return &image.UsageError{Msg: "--format docker has no media type for zstd", Hint: "use --compression gzip, or --format oci"}
	case fs.Changed("base-layers") && o.baseLayers < 0:
		return &image.UsageError{Msg: fmt.Sprintf("--base-layers %d is negative", o.baseLayers)}
	case o.baseJunk == "hide" && o.base == nil && !o.baseAuto && o.baseLayers <= 0:
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

// checkDocuments reads what is to be changed in config and manifest.
func (o *squashOptions) checkDocuments(raw *rawFlags) (err error) {
	if o.edits.Labels, err = keyValues("label", raw.labels); err != nil {
		return err
	}
	if o.edits.Annotations, err = keyValues("annotation", raw.annotations); err != nil {
		return err
	}
	switch epoch := os.Getenv("SOURCE_DATE_EPOCH"); {
	case raw.created != "":
		if o.edits.Created, err = image.ParseTime(raw.created); err != nil {
			return usageOf("--created", err)
		}
	case epoch != "":
		if o.edits.Created, err = image.ParseEpoch(epoch); err != nil {
			return usageOf("SOURCE_DATE_EPOCH", err)
		}
	}
	return nil
}

// usageOf names the flag in an error about its value.
func usageOf(flag string, err error) error {
	var usage *image.UsageError
	if errors.As(err, &usage) {
		return &image.UsageError{Msg: flag + ": " + usage.Msg, Hint: usage.Hint}
	}
	return &image.UsageError{Msg: flag + ": " + err.Error()}
}

// keyValues reads K=V and K-.
func keyValues(flag string, texts []string) (edits []image.KeyValue, err error) {
	for _, text := range texts {
		k, v, set := strings.Cut(text, "=")
		key, remove := strings.CutSuffix(text, "-")
		switch {
		case set && k != "":
			edits = append(edits, image.KeyValue{Key: k, Value: v})
		case !set && remove && key != "":
			edits = append(edits, image.KeyValue{Key: key, Remove: true})
		default:
			return nil, &image.UsageError{Msg: fmt.Sprintf("--%s %q is neither K=V nor K-", flag, text)}
		}
	}
	return edits, nil
}

// checkSize reads --max-layer-size: k, M and G are decimal, Ki, Mi and Gi binary.
func (o *squashOptions) checkSize(text string) (err error) {
	if text == "" {
		return nil
	}
	parse, full := units.FromHumanSize, text
	if strings.Contains(text, "i") {
		parse = units.RAMInBytes
	}
	if strings.HasSuffix(text, "i") {
		full += "B"
	}
	if o.maxLayer, err = parse(full); err != nil {
		return &image.UsageError{Msg: fmt.Sprintf("--max-layer-size %q is no size", text), Hint: "write 500M or 1Gi"}
	}
	if o.maxLayer < flatten.MinLayerSize {
		return &image.UsageError{Msg: fmt.Sprintf("--max-layer-size %s is less than %s", text, size(flatten.MinLayerSize))}
	}
	return nil
}

func (o *squashOptions) checkSavings() error {
	for flag, pct := range map[string]float64{"min-saving": o.minSaving, "require-saving": o.requireSaving} {
		if !(pct >= 0 && pct <= 100) {
			return &image.UsageError{Msg: fmt.Sprintf("--%s %v is not within 0 and 100 percent", flag, pct)}
		}
	}
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

// checkFamily refuses, before any work, what the manifest of the result cannot
// say: a compression, or an annotation.
func (o *squashOptions) checkFamily(img *image.Image) error {
	if err := o.edits.Check(o.family(img)); err != nil {
		return err
	}
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

// changesDocuments reports whether a flag changes an image whose layers stay.
func (o *squashOptions) changesDocuments(img *image.Image) (bool, error) {
	if img.Manifest != nil && o.family(img) != img.MediaType && !o.toDocker() {
		return true, nil
	}
	return o.edits.Change(img)
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
