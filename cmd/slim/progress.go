package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
)

// progress shows how far the stages of a run are: as bars on a terminal, as a
// line for each stage elsewhere.
type progress struct {
	bars  *mpb.Progress
	plain io.Writer
	// name is of what is worked on, where there are several.
	name string
}

func newProgress(mode string, quiet bool, w io.Writer) *progress {
	f, isFile := w.(*os.File)
	terminal := isFile && term.IsTerminal(int(f.Fd()))
	switch {
	case quiet || mode == "none":
		return &progress{}
	case mode == "auto" && terminal:
		return &progress{bars: mpb.New(mpb.WithOutput(w), mpb.WithRefreshRate(100*time.Millisecond))}
	}
	return &progress{plain: w}
}

// close ends the bars, so that other output may follow. It may be called twice.
func (p *progress) close() {
	if p.bars != nil {
		p.bars.Shutdown()
		p.bars = nil
	}
}

// say writes a line that is no part of a stage, above the bars if there are any.
func (p *progress) say(format string, args ...any) {
	switch {
	case p.bars != nil:
		fmt.Fprintf(p.bars, format, args...)
	case p.plain != nil:
		fmt.Fprintf(p.plain, format, args...)
	}
}

// stage is one part of the work, measured in bytes.
type stage struct {
	bar   *mpb.Bar
	total int64
}

func (p *progress) stage(verb string, total int64) *stage {
	s := &stage{total: total}
	if p.name != "" {
		verb = p.name + ": " + verb
	}
	if p.plain != nil {
		fmt.Fprintf(p.plain, "%s %s\n", verb, size(total))
	}
	if p.bars != nil {
		s.bar = p.bars.AddBar(total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(verb, decor.WC{W: 10, C: decor.DindentRight})),
			mpb.AppendDecorators(decor.CountersKiloByte("% .1f / % .1f"), decor.Name("  "), decor.AverageETA(decor.ET_STYLE_GO)))
	}
	return s
}

func (s *stage) done() {
	if s.bar != nil {
		s.bar.SetTotal(-1, true)
	}
}

// reader counts what is read.
func (s *stage) reader(r io.ReadCloser) io.ReadCloser {
	if s.bar == nil {
		return r
	}
	return s.bar.ProxyReader(r)
}

type readingStage struct {
	*stage
	blobs []layer.Blob
}

// reading wraps blobs so that reading them shows.
func (p *progress) reading(blobs []layer.Blob) readingStage {
	var total int64
	for _, b := range blobs {
		if b.Known == nil {
			total += b.Size
		}
	}
	s := readingStage{stage: p.stage("reading", total)}
	for _, b := range blobs {
		b.Open = s.opener(b.Open)
		s.blobs = append(s.blobs, b)
	}
	return s
}

type openFunc = func(context.Context) (io.ReadCloser, error)

func (s *stage) opener(open openFunc) openFunc {
	return func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return s.reader(r), nil
	}
}

// writing shows how a changeset is written.
func (p *progress) writing(c *flatten.Changeset) *stage {
	if p.plain == nil && p.bars == nil {
		return &stage{}
	}
	var total int64
	for it := range c.Items() {
		if it.Kind == flatten.File {
			total += it.Inode.Size
		}
	}
	return p.stage("squashing", total)
}

// body wraps the source of contents so that using it shows.
func (s *stage) body(from layer.BodyFunc) layer.BodyFunc {
	return func(n *flatten.Inode) (*io.SectionReader, error) {
		if s.bar != nil {
			s.bar.IncrInt64(n.Size)
		}
		return from(n)
	}
}

// copying wraps the layers of images so that writing them shows.
func (p *progress) copying(images []*image.Image) []*image.Image {
	var total int64
	for _, img := range images {
		for _, l := range img.Layers {
			total += l.Size
		}
	}
	s := p.stage("copying", total)
	var wrapped []*image.Image
	for _, img := range images {
		out := *img
		out.Layers = slices.Clone(img.Layers)
		for i := range out.Layers {
			out.Layers[i].Open = s.opener(out.Layers[i].Open)
		}
		wrapped = append(wrapped, &out)
	}
	return wrapped
}
