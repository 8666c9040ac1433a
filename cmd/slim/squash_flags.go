package main

import (
	"context"

	"github.com/spf13/pflag"

	"slim/internal/filter"
	"slim/internal/image"
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
  docker-daemon:NAME:TAG                 in the local Docker engine
  -                                      standard input or output

Examples:
  slim squash example.com/app:1 example.com/app:1-slim
  slim squash --base debian:12 example.com/app:1 example.com/app:1-slim
  slim squash docker-daemon:app:build example.com/app:1
  docker save app:build | slim squash - - | docker load
  slim squash --dry-run docker-archive:app.tar docker-archive:app-slim.tar
`

// squashOptions are the flags of slim squash, checked.
type squashOptions struct {
	source, target image.Ref
	platforms      []string
	// base is the image whose layers stay; nil with baseAuto, which looks for it,
	// and where none is asked for.
	base        *image.Ref
	baseAuto    bool
	baseLayers  int
	rules       *filter.Rules
	baseJunk    string
	compression string
	level       int
	// maxLayer bounds each new layer, in bytes of its tar; 0 does not.
	maxLayer     int64
	format       string
	history      string
	edits        image.Edits
	attestations string
	// minSaving and requireSaving are parts of the stored bytes in percent; 0
	// asks for nothing.
	minSaving, requireSaving float64
	inPlace                  bool
	noCache                  bool
	dryRun                   bool
	verify                   bool
	reportFile               string
	verbose                  bool
	access
}

// rawFlags are the flags as they are written.
type rawFlags struct {
	base, remove           string
	removePaths, keepPaths []string
	ruleFiles              []string
	maxLayer, created      string
	labels, annotations    []string
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
		return r.refused(o, err)
	}
	return r.print(o)
}

func squashFlags(o *squashOptions, raw *rawFlags) *pflag.FlagSet {
	fs := pflag.NewFlagSet("squash", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.StringVar(&raw.base, "base", "", "REF|keep the layers of this image, found by their diffIDs; auto: of the one that annotations, labels or provenance name")
	fs.IntVar(&o.baseLayers, "base-layers", -1, "keep the lowest `N` layers")
	fs.Lookup("base-layers").DefValue = "0"
	fs.StringArrayVar(&o.platforms, "platform", nil, "OS/ARCH[/VARIANT]|rewrite this image of an index (repeatable; default: all for Linux)")
	fs.StringVar(&raw.remove, "remove", "default", "LIST|rule presets to apply, none, or +name and -name to adjust the default")
	fs.StringArrayVar(&raw.removePaths, "remove-path", nil, "remove what matches `GLOB` (repeatable)")
	fs.StringArrayVar(&raw.keepPaths, "keep-path", nil, "keep what matches `GLOB`, whatever removes it (repeatable)")
	fs.StringArrayVar(&raw.ruleFiles, "rules", nil, "patterns from a `FILE` in .dockerignore syntax (repeatable)")
	fs.StringVar(&o.baseJunk, "base-junk", "keep", "MODE|keep leaves junk in the base, hide covers it with whiteouts, which saves no bytes")
	fs.StringVar(&o.compression, "compression", "auto", "NAME|of the new layers: gzip, zstd, none, or auto, which is what the target and the source's layers suggest")
	fs.IntVar(&o.level, "compression-level", 0, "N|from 1 to 9 for gzip (6 if not given), from 1 to 22 for zstd (3)")
	fs.Lookup("compression-level").DefValue = "0"
	fs.StringVar(&raw.maxLayer, "max-layer-size", "", "split what is squashed into layers of at most `SIZE` as tars, such as 500M or 1Gi")
	fs.StringVar(&o.format, "format", "source", "FAMILY|of manifest, config and index: source, oci or docker")
	fs.StringVar(&o.history, "history", "keep", "MODE|keep leaves the source's history entries, drop only the new one")
	fs.StringArrayVar(&raw.labels, "label", nil, "K=V|set a label, or remove it: K- (repeatable)")
	fs.StringArrayVar(&raw.annotations, "annotation", nil, "K=V|set an annotation of manifest and index, or remove it: K- (repeatable)")
	fs.StringVar(&raw.created, "created", "", "TIME|of creation, RFC 3339 or Unix seconds (default: SOURCE_DATE_EPOCH, else the source's)")
	fs.StringVar(&o.attestations, "attestations", "drop", "MODE|drop leaves out signatures and attestations of what changes and lists them, fail ends with exit code 3")
	fs.Float64Var(&o.minSaving, "min-saving", 0, "PCT|leave the layers as they are if less than PCT percent of the stored bytes would be saved")
	fs.Float64Var(&o.requireSaving, "require-saving", 0, "PCT|write nothing and end with exit code 3 if less than PCT percent would be saved")
	fs.BoolVar(&o.inPlace, "in-place", false, "allow SOURCE and TARGET to be the same tag")
	fs.BoolVar(&o.verify, "verify", false, "read the target back and prove that it holds the source less what was removed")
	fs.BoolVar(&o.dryRun, "dry-run", false, "do all but write the target")
	fs.StringVar(&o.reportFile, "report", "", "write the report as JSON to `FILE` (-: standard output)")
	fs.BoolVarP(&o.verbose, "verbose", "v", false, "list every layer in the report")
	fs.BoolVar(&o.noCache, "no-cache", false, "read base layers anew and keep nothing of them for the next run")
	o.access.flags(fs)
	return fs
}
