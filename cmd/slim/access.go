package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"slim/internal/image"
	"slim/internal/layer"
)

// access is what all commands need that open images: how registries are reached,
// where temporary files go, how progress shows.
type access struct {
	insecure         []string
	caFile, authFile string
	tempDir          string
	retries, jobs    int
	quiet            bool
	mode             string
	progress         *progress
	stdio            stdio
}

func (a *access) flags(fs *pflag.FlagSet) {
	fs.StringVar(&a.mode, "progress", "auto", "MODE|auto shows bars on a terminal, plain only lines, none nothing")
	fs.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no report on standard error")
	fs.StringArrayVar(&a.insecure, "insecure", nil, "plain HTTP or unverified TLS, for one `HOST` or for all")
	fs.Lookup("insecure").NoOptDefVal = "*"
	fs.StringVar(&a.caFile, "ca-file", "", "trust the certificates in a PEM `FILE`")
	fs.StringVar(&a.authFile, "authfile", "", "registry credentials from a `FILE` as docker and podman write it")
	fs.IntVar(&a.retries, "retries", 3, "send a failed request `N` times again")
	fs.IntVarP(&a.jobs, "jobs", "j", 0, "transfer `N` layers at once (default: 4, or as many as there are cores)")
	fs.StringVar(&a.tempDir, "tmp-dir", "", "DIR|for temporary files (default: TMPDIR, else /var/tmp)")
}

// check checks the flags and sets what follows from them.
func (a *access) check(fs *pflag.FlagSet) error {
	if err := checkChoices([]choice{{"progress", a.mode, []string{"auto", "plain", "none"}}}); err != nil {
		return err
	}
	if fs.Changed("jobs") && a.jobs < 1 {
		return &image.UsageError{Msg: fmt.Sprintf("--jobs %d is less than 1", a.jobs)}
	}
	if a.retries < 0 {
		return &image.UsageError{Msg: fmt.Sprintf("--retries %d is negative", a.retries)}
	}
	for flag, name := range map[string]string{"ca-file": a.caFile, "authfile": a.authFile} {
		if _, err := os.Stat(name); name != "" && err != nil {
			return &image.UsageError{Msg: fmt.Sprintf("--%s: %v", flag, err)}
		}
	}
	for _, host := range a.insecure {
		if slices.Contains([]string{"", "true", "yes", "1", "false", "no", "0"}, host) || strings.Contains(host, "/") {
			return &image.UsageError{Msg: fmt.Sprintf("--insecure=%s names no host", host), Hint: "--insecure alone is for all hosts, --insecure=HOST[:PORT] for one"}
		}
	}
	a.progress = newProgress(a.mode, a.quiet, a.stdio.err)
	return a.checkTempDir()
}

// tell says on standard error what is about to happen, unless nothing is to be
// said.
func (a *access) tell(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stdio.err, "slim: "+format+"\n", args...)
	}
}

// waiting says why there is a pause.
func (a *access) waiting(err error, d time.Duration) {
	if !a.quiet && a.progress != nil {
		a.progress.say("slim: %s; trying again in %s\n", visible(err.Error()), d.Round(time.Second))
	}
}

// choice is a flag with the values that it may have.
type choice struct {
	flag, value string
	allowed     []string
}

func checkChoices(choices []choice) error {
	for _, c := range choices {
		if !slices.Contains(c.allowed, c.value) {
			return &image.UsageError{Msg: fmt.Sprintf("--%s %q is none of %s", c.flag, c.value, strings.Join(c.allowed, ", "))}
		}
	}
	return nil
}

// checkInput keeps a terminal from being read as an image.
func (a *access) checkInput(what string, ref image.Ref) error {
	if ref.IsStdio() && term.IsTerminal(int(a.stdio.in.Fd())) {
		return &image.UsageError{Msg: what + " is standard input, which is a terminal", Hint: "docker save IMAGE | slim …"}
	}
	return nil
}

// leastFree is the space below which a run is not begun.
const leastFree = 64 << 20

func (a *access) checkTempDir() error {
	flag := "--tmp-dir"
	if a.tempDir == "" {
		flag, a.tempDir = "TMPDIR", os.Getenv("TMPDIR")
	}
	if a.tempDir == "" {
		flag, a.tempDir = "the temporary folder", "/var/tmp"
	}
	const hint = "--tmp-dir names a folder with space for the unpacked layers"
	if info, err := os.Stat(a.tempDir); err == nil && !info.IsDir() {
		return &image.UsageError{Msg: fmt.Sprintf("%s %q is no folder", flag, a.tempDir), Hint: hint}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(a.tempDir, &st); err != nil {
		return &image.UsageError{Msg: fmt.Sprintf("%s %q: %v", flag, a.tempDir, err), Hint: hint}
	}
	if f, err := layer.TempFile(a.tempDir); err != nil {
		return &image.HintError{Err: fmt.Errorf("%s %q cannot be written: %w", flag, a.tempDir, err), Hint: hint}
	} else {
		f.Close()
	}
	if free := int64(st.Bavail) * st.Bsize; free < leastFree {
		return &image.HintError{Err: fmt.Errorf("%s %q has %s free", flag, a.tempDir, size(free)), Hint: hint}
	}
	return nil
}

// imageOptions are the options that opening and writing images need; img gives the
// names that an archive on standard output carries.
func (a *access) imageOptions(img *image.Image) image.Options {
	opts := image.Options{
		Stdin: a.stdio.in, Stdout: a.stdio.out, TempDir: a.tempDir, Insecure: a.insecure,
		CAFile: a.caFile, AuthFile: a.authFile, Jobs: a.jobs, UserAgent: "slim/" + toolVersion(),
		Retries: a.retries, Waiting: a.waiting,
	}
	if a.retries == 0 {
		opts.Retries = -1
	}
	if img != nil {
		opts.Names = img.Names
	}
	return opts
}

// opened is an image with the source that it must not outlive.
type opened struct {
	*image.Image
	source *image.Source
}

// Close lets go of the source.
func (o opened) Close() {
	if o.source != nil {
		o.source.Close()
	}
}

// open opens an image; platform selects from an index, "" is the only one.
func (a *access) open(ctx context.Context, ref image.Ref, platform string) (opened, error) {
	src, err := image.Open(ctx, ref, a.imageOptions(nil))
	if err != nil {
		return opened{}, err
	}
	img, err := src.Image(ctx, platform)
	if err != nil {
		src.Close()
		return opened{}, err
	}
	return opened{img, src}, nil
}

// blobsOf returns the layers of an image to be read, the lowest kept without
// contents.
func blobsOf(img *image.Image, kept int) ([]layer.Blob, error) {
	blobs := make([]layer.Blob, len(img.Layers))
	for i, l := range img.Layers {
		if l.Foreign {
			return nil, &image.HintError{
				Err:  fmt.Errorf("%s is a foreign layer: its bytes are not in the image and are never fetched from elsewhere", layerName(img, i)),
				Hint: "push the image with its foreign layers included, then use that",
			}
		}
		blobs[i] = blobOf(l)
		blobs[i].Bodies = i >= kept
	}
	return blobs, nil
}

func blobOf(l image.Layer) layer.Blob {
	return layer.Blob{Digest: digestText(l), Size: l.Size, DiffID: l.DiffID.String(), Open: l.Open}
}
