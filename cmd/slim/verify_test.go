package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
)

const (
	// richBase and richUpper have every kind of file and change.
	richBase = "etc/ etc/gone=1 etc/os=1 etc/passwd(0640,u1,g2,t7)=root usr/ usr/lib/ usr/lib/x=X{user.k=v} usr/lib/y⇒usr/lib/x{user.k=v}" +
		" var/ var/cache/ var/cache/apk/ var/cache/apk/junk=J dev/ dev/null!c1,3(0666) run!p old/ old/a=1 old/b=2"
	richUpper = " | etc/conf=one{user.cap=yes} ✗etc/gone bin/ bin/sh(04755)=shell bin/bash⇒bin/sh(04755) lib→usr/lib d/(0700,u5,g6,t9)" +
		" | old◊ old/c=3 bin/zsh⇒bin/sh(04755) ✗var/cache/apk/junk var/cache/apk/more=M d/f(t11) dev/sda!b8,1"
)

// verifiedTargets are all targets that can be read back; OUT is an unused name.
var verifiedTargets = []string{"HUB/out:slim", "oci:out:slim", "oci-archive:out.tar:slim", "docker-archive:out.tar:out:slim"}

// TestVerifyHolds proves what slim writes, for every way to write it.
func TestVerifyHolds(t *testing.T) {
	for name, c := range map[string]struct {
		app   recipe
		flags string
		text  string
	}{
		"whole":                 {recipe{layers: richBase + richUpper}, "", "squashed"},
		"base":                  {recipe{layers: richBase + richUpper}, "--base-layers 1", "squashed"},
		"base of two layers":    {recipe{layers: richBase + richUpper}, "--base-layers 2", "squashed"},
		"hidden junk":           {recipe{layers: richBase + " | a=1 | b=2"}, "--base-layers 1 --base-junk hide", "squashed"},
		"patterns":              {recipe{layers: richBase + richUpper}, "--remove none --remove-path usr/lib/x --remove-path d/** --keep-path d/f", "squashed"},
		"a directory":           {recipe{layers: richBase + richUpper}, "--base-layers 1 --base-junk hide --remove-path usr", "squashed"},
		"zstd":                  {recipe{layers: richBase + richUpper, compression: "zstd"}, "", "squashed"},
		"no compression":        {recipe{layers: richBase + richUpper}, "--compression none --history drop", "squashed"},
		"nothing to do":         {recipe{layers: "a=1 b=2"}, "", "nothing to do"},
		"nothing above":         {recipe{layers: richBase}, "--base-layers 1", "nothing to do"},
		"nothing left above":    {recipe{layers: richBase + " | x=1 | ✗x"}, "--base-layers 1 --base-junk keep", "squashed"},
		"no files":              {recipe{layers: "a=1 | ✗a"}, "", "squashed"},
		"names of other people": {recipe{layers: "é=1 \x1b=2 \xff=3 | a\\b=4 %s=5"}, "", "squashed"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, target := range verifiedTargets {
				s, h := newSandbox(t), newHub(t)
				c.app.build().layout("1").save(s, "in")
				h.setHook(h.guarded(nil))
				args := append(append([]string{"squash", "--verify", "--report", "report.json"}, strings.Fields(c.flags)...), "oci:in:1", strings.ReplaceAll(target, "HUB", h.host))
				o := s.done(args...)
				s.wantTexts(o, c.text, "\nverified: the target was read back")
				var r struct{ Verified bool }
				if err := json.Unmarshal([]byte(s.read("report.json")), &r); err != nil || !r.Verified {
					t.Errorf("%s: the report does not say verified: %v", target, err)
				}
				args[1] = "--progress=none"
				if again := s.done(args...); again.out != o.out {
					t.Errorf("%s: %q with --verify, %q without", target, o.out, again.out)
				}
			}
		})
	}
}

// TestVerifyFromEverySource proves what comes from all kinds of sources.
func TestVerifyFromEverySource(t *testing.T) {
	app := recipe{layers: richBase + richUpper}.build()
	for name, put := range sourceForms {
		t.Run(name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			source, stdin := put(s, h, app)
			o := s.wantCode(exitDone, s.pipe(stdin, "squash", "--verify", "--base-layers", "1", source, "docker-archive:out.tar"))
			s.wantTexts(o, "\nverified: ")
		})
	}
}

func TestVerifyNeedsATarget(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: appLayers}.build().layout("1").save(s, "in")
	for _, target := range []string{"-", "docker-archive:-", "docker-archive:-:a:1", "oci-archive:-:1"} {
		s.fails(exitUsage, []string{"--verify cannot read standard output back", "slim: hint: "}, "squash", "--verify", "oci:in:1", target)
	}
	o := s.done("squash", "--verify", "--dry-run", "oci:in:1", "oci:out:1")
	if strings.Contains(o.err, "verified") {
		t.Errorf("a dry run says that it verified:\n%s", o.err)
	}
}

// TestVerifyOneConfigTwice proves two images of an index that differ only in how their
// layers are compressed.
func TestVerifyOneConfigTwice(t *testing.T) {
	gzip, zstd := recipe{layers: goodLayer}.build(), recipe{layers: goodLayer, compression: "zstd"}.build()
	for _, target := range []string{"HUB/out:1", "oci:out:1", "oci-archive:out.tar:1"} {
		s, h := newSandbox(t), newHub(t)
		source := h.pushIndex(indexOf(gzip.platformEntry(), zstd.platformEntry()), "app", "1", gzip, zstd)
		target = strings.ReplaceAll(target, "HUB", h.host)
		plain := s.done("squash", source, target)
		proved := s.done("squash", "--verify", source, target)
		s.wantTexts(proved, "\nverified: ")
		if plain.out != proved.out {
			t.Errorf("%s: %q, with --verify %q", target, plain.out, proved.out)
		}
	}
}

// TestVerifyOtherSystem reads back what is not for Linux too, where it was selected.
func TestVerifyOtherSystem(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	amd := recipe{layers: appLayers}.build()
	bsd := recipe{layers: appLayers + " | bsd=1", platform: "freebsd/amd64"}.build()
	source := h.pushIndex(indexOf(amd.platformEntry(), bsd.platformEntry()), "app", "1", amd, bsd)
	for _, platforms := range []string{"--platform freebsd/amd64", "--platform freebsd/amd64 --platform linux/amd64"} {
		seen := h.watch()
		args := append([]string{"squash", "--verify"}, strings.Fields(platforms)...)
		o := s.done(append(args, source, h.ref("out:slim"))...)
		s.wantTexts(o, "\nverified: ")
		read := maps.Clone(seen)
		manifests := []string{"slim"}
		if strings.Contains(platforms, "linux") {
			manifests = h.pullIndex("out", "slim").digests()
		}
		for _, m := range manifests {
			if d := parseDescriptor(t, h.pull("out", m).layers[0]).Digest; read["GET "+d] == 0 {
				t.Errorf("%s: layer %s was not read back", platforms, d)
			}
		}
	}
}

// TestVerifyOrder has the registry tell in which order it was asked: the tag comes
// after everything was read back.
func TestVerifyOrder(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	recipe{layers: richBase + richUpper}.build().layout("1").save(s, "in")
	o := s.done("squash", "--verify", "--base-layers", "1", "oci:in:1", h.ref("out:slim"))
	digest := strings.TrimSpace(o.out[strings.Index(o.out, "sha256:"):])
	h.mu.Lock()
	requests := slices.Clone(h.requests)
	h.mu.Unlock()
	last := func(prefix string) int {
		for i, r := range slices.Backward(requests) {
			if strings.HasPrefix(r, prefix) {
				return i
			}
		}
		t.Fatalf("no request %s in\n%s", prefix, strings.Join(requests, "\n"))
		return -1
	}
	steps := []string{"PUT /v2/out/blobs/uploads/", "PUT /v2/out/manifests/" + digest, "GET /v2/out/manifests/" + digest, "GET /v2/out/blobs/", "PUT /v2/out/manifests/slim"}
	for i, step := range steps[1:] {
		if last(steps[i]) > last(step) {
			t.Errorf("%s came after %s:\n%s", steps[i], step, strings.Join(requests, "\n"))
		}
	}
	manifest, _ := h.get("out/manifests/slim")
	for _, d := range assemble(t, manifest, func(digest string) []byte { b, _ := h.get("out/blobs/" + digest); return b }).layers {
		if want := "GET /v2/out/blobs/" + parseDescriptor(t, d).Digest; !slices.Contains(requests, want) {
			t.Errorf("%s was not read back", want)
		}
	}
}

// TestVerifyReadsOtherBytes has the registry give back what slim did not write.
func TestVerifyReadsOtherBytes(t *testing.T) {
	f := noisy(30_000, 20_000)
	other := recipe{layers: "other=1"}.build()
	replace := func([]byte) []byte { return other.manifest }
	for _, c := range []struct {
		name, at string
		change   func([]byte) []byte
	}{
		{"manifest", "manifest", func(b []byte) []byte {
			return bytes.Replace(b, []byte("12345678901234567890"), []byte("12345678901234567891"), 1)
		}},
		{"another manifest", "manifest", replace},
		{"config", "config", func(b []byte) []byte { return bytes.Replace(b, []byte("/bin/sh"), []byte("/bin/s!"), 1) }},
		{"empty config", "config", func([]byte) []byte { return nil }},
		{"kept layer", "layer 0", func(b []byte) []byte { c := bytes.Clone(b); c[len(c)/2] ^= 1; return c }},
		{"written layer", "layer 1", func(b []byte) []byte { c := bytes.Clone(b); c[len(c)/2] ^= 1; return c }},
		{"written layer cut off", "layer 1", func(b []byte) []byte { return b[:len(b)/2] }},
		{"written layer with more", "layer 1", func(b []byte) []byte { return append(bytes.Clone(b), make([]byte, 512)...) }},
		{"written layer compressed again", "layer 1", func(b []byte) []byte { return compressed("gzip", inflated(t, b)[:1024]) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			f.layout("1").save(s, "in")
			s.done("squash", "--base-layers", "1", "oci:in:1", h.ref("want:slim"))
			want := h.pull("want", "slim")
			at := map[string]string{
				"manifest": "/manifests/" + want.digest(), "config": "/blobs/" + sha256Of(want.config),
				"layer 0": "/blobs/" + sha256Of(want.blobs[0]), "layer 1": "/blobs/" + sha256Of(want.blobs[1]),
			}[c.at]
			contents := map[string][]byte{"manifest": want.manifest, "config": want.config, "layer 0": want.blobs[0], "layer 1": want.blobs[1]}
			body := c.change(contents[c.at])
			h.setHook(h.guarded(func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Type", want.mediaType)
				return answer("/v2/out"+at, body)(w, r)
			}))
			s.fails(exitFailed, []string{"reading back"}, "squash", "--verify", "--base-layers", "1", "oci:in:1", h.ref("out:slim"))
			h.setHook(nil)
			h.wantNone("out", "slim")
		})
	}
}

// spoiled changes what is written: the items of the new layer, or the content of
// a file.
type spoiled struct {
	name  string
	items func([]flatten.Item) []flatten.Item
	// body replaces the content of the file at a path.
	path string
	body func(string) string
	text string
}

// at changes the item of a path.
func at(path string, change func(*flatten.Item)) func([]flatten.Item) []flatten.Item {
	return func(items []flatten.Item) []flatten.Item {
		for i := range items {
			if items[i].Path == path {
				change(&items[i])
				return items
			}
		}
		panic(fmt.Sprintf("no item %q", path))
	}
}

// header changes the inode of the item of a path, and of no other name.
func header(path string, change func(*flatten.Inode, *flatten.Attr)) func([]flatten.Item) []flatten.Item {
	return at(path, func(it *flatten.Item) {
		n, a := *it.Inode, *it.Inode.Attr
		a.Records = slices.Clone(a.Records)
		n.Attr = &a
		change(&n, &a)
		it.Inode = &n
	})
}

func without(path string) func([]flatten.Item) []flatten.Item {
	return func(items []flatten.Item) []flatten.Item {
		return slices.DeleteFunc(items, func(it flatten.Item) bool { return it.Path == path })
	}
}

// copied puts a copy of the item of a path under another name right after it.
func copied(path, name string, change func(*flatten.Item)) func([]flatten.Item) []flatten.Item {
	return func(items []flatten.Item) []flatten.Item {
		i := slices.IndexFunc(items, func(it flatten.Item) bool { return it.Path == path })
		it := items[i]
		it.Path = name
		change(&it)
		return slices.Insert(items, i+1, it)
	}
}

func kept(*flatten.Item) {}

// spoiledWriters are what a broken writer could do to richBase and richUpper above
// one base layer.
var spoiledWriters = []spoiled{
	{name: "one byte of content", path: "etc/conf", body: func(s string) string { return "0" + s[1:] }, text: `"/etc/conf": content sha256:`},
	{name: "content of a linked file", path: "bin/bash", body: strings.ToUpper, text: `"/bin/sh": content`},
	{name: "one mode bit", items: header("d/f", func(_ *flatten.Inode, a *flatten.Attr) { a.Mode |= 1 }), text: `"/d/f": mode 0644 → 0645`},
	{name: "setuid of all names", items: func(items []flatten.Item) []flatten.Item {
		for _, p := range []string{"bin/bash", "bin/sh", "bin/zsh"} {
			items = header(p, func(_ *flatten.Inode, a *flatten.Attr) { a.Mode &^= 0o4000 })(items)
		}
		return items
	}, text: `"/bin/sh": mode 4755 → 0755`},
	{name: "header of a link", items: header("bin/zsh", func(_ *flatten.Inode, a *flatten.Attr) { a.Mode &^= 0o4000 }), text: `"bin/zsh": hardlink header differs`},
	{name: "xattr", items: header("etc/conf", func(_ *flatten.Inode, a *flatten.Attr) { a.Records = nil }), text: `"/etc/conf": xattrs user.cap="yes" → nothing`},
	{name: "value of an xattr", items: header("etc/conf", func(_ *flatten.Inode, a *flatten.Attr) { a.Records[0].Value = "no" }), text: `"/etc/conf": xattrs user.cap="yes" → user.cap="no"`},
	{name: "uid", items: header("d", func(_ *flatten.Inode, a *flatten.Attr) { a.UID++ }), text: `"/d": uid 5 → 6`},
	{name: "gid", items: header("d", func(_ *flatten.Inode, a *flatten.Attr) { a.GID-- }), text: `"/d": gid 6 → 5`},
	{name: "mtime", items: header("d/f", func(n *flatten.Inode, _ *flatten.Attr) { n.Sec++ }), text: `"/d/f": mtime 11.000000000 → 12.000000000`},
	{name: "nanoseconds", items: header("d/f", func(n *flatten.Inode, _ *flatten.Attr) { n.Nsec++ }), text: `"/d/f": mtime 11.000000000 → 11.000000001`},
	{name: "symlink", items: header("lib", func(n *flatten.Inode, _ *flatten.Attr) { n.Link += "/" }), text: `"/lib": link usr/lib → usr/lib/`},
	{name: "device", items: header("dev/sda", func(_ *flatten.Inode, a *flatten.Attr) { a.DevMinor++ }), text: `"/dev/sda": device 8:1 → 8:2`},
	{name: "type", items: at("dev/sda", func(it *flatten.Item) { it.Kind = flatten.CharDevice }), text: `"/dev/sda": type block device → character device`},
	{name: "link made a copy", items: at("bin/zsh", func(it *flatten.Item) { it.Kind, it.Link = flatten.File, "" }), text: `"/bin/bash": hardlinks 3 names → 2 names`},
	{name: "link of another file", items: copied("bin/sh", "bin/sz", kept), text: `"/bin/sz" should not be there`},
	{name: "whiteout omitted", items: without("etc/gone"), text: `"/etc/gone" should not be there`},
	{name: "whiteout in a directory that was opaque", items: without("old/a"), text: `"/old/a" should not be there`},
	{name: "whiteout too many", items: copied("etc/gone", "etc/os", kept), text: `"/etc/os" is missing`},
	{name: "whiteout of nothing", items: copied("etc/gone", "etc/none", kept), text: `"etc/none": whiteout of what the base does not have`},
	{name: "file missing", items: without("d/f"), text: `"/d/f" is missing`},
	{name: "file too many", items: copied("etc/conf", "etc/extra", kept), text: `"/etc/extra" should not be there`},
	{name: "file of the base written over", items: copied("etc/conf", "etc/os", kept), text: `"/etc/os": `},
	{name: "file renamed", items: at("d/f", func(it *flatten.Item) { it.Path = "d/g" }), text: `"/d/f" is missing; "/d/g" should not be there`},
	{name: "entry twice", items: copied("d/f", "d/f", kept), text: `"d/f": entry out of order`},
	{name: "directory missing", items: without("d"), text: `"d/f": its directory has no entry before it`},
	{name: "order", items: func(items []flatten.Item) []flatten.Item {
		i := slices.IndexFunc(items, func(it flatten.Item) bool { return it.Path == "bin/sh" })
		items[i], items[i+1] = items[i+1], items[i]
		return items
	}, text: `"bin/sh": entry out of order`},
	{name: "nothing written", items: func([]flatten.Item) []flatten.Item { return nil }, text: "and "},
}

// TestVerifyCatchesABrokenWriter spoils the written layer; its digests are right,
// so that only the proof can tell.
func TestVerifyCatchesABrokenWriter(t *testing.T) {
	f := recipe{layers: richBase + richUpper}.build()
	good := spoiled{name: "not broken", items: func(items []flatten.Item) []flatten.Item { return items }}
	for i, c := range append(spoiledWriters, good) {
		t.Run(c.name, func(t *testing.T) {
			for n, target := range verifiedTargets {
				// All kinds of targets once, every spoiled layer in one of them.
				if i > 0 && c.text != "" && n != i%len(verifiedTargets) {
					continue
				}
				s, h := newSandbox(t), newHub(t)
				f.layout("1").save(s, "in")
				h.setHook(h.guarded(nil))
				args := []string{"squash", "--verify", "--base-layers", "1", "oci:in:1", strings.ReplaceAll(target, "HUB", h.host)}
				before := targetOf(args)
				err := c.squash(s, args[1:])
				s.checkLeftovers()
				if c.text == "" {
					if err != nil {
						t.Fatal(err)
					}
					continue
				}
				if code := exitCode(err); code != exitNotHeld || !strings.Contains(fmt.Sprint(err), c.text) || !strings.Contains(fmt.Sprint(err), "writing "+args[len(args)-1]) {
					t.Errorf("exit code %d, the error lacks %q: %v", code, c.text, err)
				}
				if after := targetOf(args); after.existed != before.existed {
					t.Errorf("the target %s was written", after.path)
				}
				h.wantNone("out", "slim")
			}
		})
	}
}

// squash is what the command does, with a layer that is spoiled before it is
// written.
func (c spoiled) squash(s *sandbox, args []string) error {
	s.t.Helper()
	w := newWork(parsedOptions(s, args))
	defer w.close()
	w.encode = c.encode
	_, err := w.squash(s.t.Context())
	return err
}

func parsedOptions(s *sandbox, args []string) *squashOptions {
	s.t.Helper()
	o, raw := &squashOptions{access: access{stdio: stdio{in: s.stream(), out: io.Discard, err: io.Discard}}}, &rawFlags{}
	fs := squashFlags(o, raw)
	if err := errors.Join(fs.Parse(args), o.check(fs, raw)); err != nil {
		s.t.Fatal(err)
	}
	return o
}

func (c spoiled) encode(ctx context.Context, all iter.Seq[flatten.Item], from layer.BodyFunc, o layer.WriteOptions) (*layer.Written, error) {
	items := slices.Collect(all)
	var victim *flatten.Inode
	for _, it := range items {
		if it.Path == c.path && c.body != nil {
			victim = it.Inode
		}
	}
	if c.items != nil {
		items = c.items(items)
	}
	body := func(n *flatten.Inode) (*io.SectionReader, error) {
		r, err := from(n)
		if err != nil || n != victim {
			return r, err
		}
		b, err := io.ReadAll(r)
		text := c.body(string(b))
		return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text))), err
	}
	return layer.Write(ctx, slices.Values(items), body, o)
}

// TestVerifyCountsWhatIsGone spoils what is compared in place of what is written.
func TestVerifyCountsWhatIsGone(t *testing.T) {
	f := recipe{layers: richBase + richUpper}.build()
	for _, c := range []struct {
		name  string
		spoil func(*proof, *image.Image)
		text  string
	}{
		{"more counted than gone", func(p *proof, _ *image.Image) { p.removed++ }, "3 paths are gone, the report counts 4"},
		{"less counted than gone", func(p *proof, _ *image.Image) { p.removed-- }, "3 paths are gone, the report counts 2"},
		{"other config", func(p *proof, _ *image.Image) { p.result = altered(p.result, "config") }, "the config that was read back is another one"},
		{"other manifest", func(p *proof, _ *image.Image) { p.result = altered(p.result, "manifest") }, "the manifest that was read back is another one"},
		{"other layers", func(_ *proof, back *image.Image) { back.Layers = back.Layers[1:] }, "the layers that were read back are others"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			f.layout("1").save(s, "in")
			ctx, o := t.Context(), parsedOptions(s, []string{"--verify", "--remove-path", "usr/lib/**", "oci:in:1", "oci:out:1"})
			source, err := o.open(ctx, o.source, "")
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			layers, err := newWork(o).readLayers(ctx, source.Image, boundary{})
			if err != nil {
				t.Fatal(err)
			}
			defer layers.Close()
			files, err := flatten.Replay(entriesOf(layers), 0)
			if err != nil {
				t.Fatal(err)
			}
			p := &proof{o: o, files: files, layers: layers, source: files.Final.Snapshot(), result: source.Image}
			pruned, err := files.Final.Prune(pruneOptions(o, files, layers))
			if err != nil {
				t.Fatal(err)
			}
			for _, rule := range pruned.Rules {
				p.removed += rule.Names
			}
			back := *source.Image
			c.spoil(p, &back)
			if err := p.check(ctx, &back); exitCode(err) != exitNotHeld || !strings.Contains(err.Error(), c.text) {
				t.Errorf("the error lacks %q: %v", c.text, err)
			}
		})
	}
}

// altered returns an image with one byte more in a document.
func altered(img *image.Image, document string) *image.Image {
	c := *img
	if document == "config" {
		c.Config = append(bytes.Clone(c.Config), ' ')
	} else {
		c.Manifest = append(bytes.Clone(c.Manifest), ' ')
	}
	return &c
}
