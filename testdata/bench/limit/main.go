// Command limit does the least that any program must do that squashes an image in one
// pass, and nothing else: its time is what such a program can reach on a machine.
//
// Usage: limit [flags] SOURCE TARGET
//
// SOURCE is HOST:PORT/NAME:TAG, by plain HTTP, or oci:DIR; TARGET is HOST:PORT/NAME.
//
// It is: each compressed layer is read once and its SHA-256 checked; inflated once, by
// the decoders that slim has, and its diffID checked; of the inflated bytes as many as
// a report of slim says the squashed layer has go through the encoders that slim has,
// at the same level, in blocks of the same size and with as many workers; both sides
// of the encoder are hashed; what comes out is uploaded as one blob. All of that
// happens at once, on all cores: nothing waits for a file or for the end of a stage,
// since the bytes are a share of every layer, taken as they arrive.
//
// It is not: a tar is neither read nor written, so it decides nothing: a real program
// knows which bytes live only when it has seen the headers of all layers, and so must
// keep what it inflated, or inflate it twice, and cannot encode while it inflates. Nor
// does it upload config and manifest, use temporary files, or bound its memory. Its
// upload begins before the digest is known, as a stream that a PUT ends; a program
// that sends one PUT with the digest, as is usual, or that asks first whether the
// registry has the blob, must have encoded all of it before. What keeps fewer bytes
// from being touched, such as a base that stays, may be faster than this limit.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

// options are the flags and the arguments.
type options struct {
	source, target string
	compression    string
	level          int
	amount         amount
}

func main() {
	var o options
	report := flag.String("report", "", "report of slim squash on the same source, for the bytes to encode")
	flag.StringVar(&o.compression, "compression", "gzip", "gzip or zstd")
	flag.IntVar(&o.level, "level", 0, "level of the compression; 0: slim's default")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: limit -report FILE [flags] SOURCE TARGET")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 || *report == "" || o.compression != "gzip" && o.compression != "zstd" {
		flag.Usage()
		os.Exit(2)
	}
	o.source, o.target = flag.Arg(0), flag.Arg(1)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, *report); err != nil {
		fmt.Fprintln(os.Stderr, "limit: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, report string) (err error) {
	if o.amount, err = readReport(report); err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	start := time.Now()
	src, err := openSource(ctx, o.source)
	if err != nil {
		return err
	}
	blobs, err := src.layers(ctx)
	if err != nil {
		return err
	}
	out, err := squash(ctx, src, blobs, o)
	if err != nil {
		return err
	}
	fmt.Printf("%.3f s: %d bytes of %d inflated, %d stored, %s\n",
		time.Since(start).Seconds(), o.amount.live, o.amount.inflated, out.size, out.digest)
	return nil
}

// amount is how much of what is inflated is encoded, in bytes.
type amount struct{ inflated, live int64 }

// readReport takes the bytes from a report, see docs/report.md.
func readReport(name string) (amount, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return amount{}, err
	}
	var report struct {
		Platforms []struct {
			Before struct {
				Inflated int64 `json:"inflated_bytes"`
			} `json:"before"`
			Written []struct {
				Inflated int64 `json:"inflated_bytes"`
			} `json:"written"`
		} `json:"platforms"`
	}
	if err := json.Unmarshal(data, &report); err != nil {
		return amount{}, err
	}
	if len(report.Platforms) != 1 {
		return amount{}, fmt.Errorf("%d platforms instead of one", len(report.Platforms))
	}
	p := report.Platforms[0]
	a := amount{inflated: p.Before.Inflated}
	for _, w := range p.Written {
		a.live += w.Inflated
	}
	if a.live <= 0 || a.live > a.inflated {
		return amount{}, fmt.Errorf("%d of %d bytes to encode", a.live, a.inflated)
	}
	return a, nil
}

// splitName takes HOST:PORT/NAME:TAG apart; TAG may be missing.
func splitName(s string) (host, name, tag string, err error) {
	host, rest, ok := strings.Cut(s, "/")
	name, tag, _ = strings.Cut(rest, ":")
	if !ok || name == "" {
		return "", "", "", fmt.Errorf("%q is not HOST:PORT/NAME", s)
	}
	return host, name, tag, nil
}
