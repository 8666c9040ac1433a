package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// words is what text is made of.
var words = strings.Fields(`
	the of and to a in is for that this with as be on by or not are from an it
	which can file files system library package version user configuration
	default option value name path directory may will used using when if then
	error warning returns function argument string number list set support
	server client request response network address port socket connection data
	memory buffer size time date format output input command line program
	process thread signal handler module interface method object class type
	Copyright License Software Foundation permission notice without warranty
	distribution source binary free modify redistribute provided conditions
	update install remove upgrade depends conflicts provides architecture`)

// source returns the generator for a file: the same name, the same content.
func source(name string) *rand.PCG {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.NewPCG(h.Sum64(), 0x5ca1ab1e)
}

// text returns n bytes of lines of words with now and then a number: it
// shrinks to about a third, as prose and source code do.
func text(name string, n int) []byte {
	r := source(name)
	out := make([]byte, 0, n+64)
	for column := 0; len(out) < n; {
		bits := r.Uint64()
		start := len(out)
		if bits>>60 == 0 {
			out = fmt.Appendf(out, "%d", bits>>40&0xffff)
		} else {
			// The product of two draws makes some words frequent and some rare.
			out = append(out, words[(bits&0xff)*(bits>>8&0xff)*uint64(len(words))>>16]...)
		}
		column += len(out) - start + 1
		if column > 72 {
			out, column = append(out, '\n'), 0
		} else {
			out = append(out, ' ')
		}
	}
	out = out[:n]
	if n > 0 {
		out[n-1] = '\n'
	}
	return out
}

// program returns n bytes that look like machine code to a compressor: they
// shrink to less than half.
func program(name string, n int) []byte {
	r := source(name)
	var idioms [256][16]byte
	for i := range idioms {
		binary.LittleEndian.PutUint64(idioms[i][:], r.Uint64())
		binary.LittleEndian.PutUint64(idioms[i][8:], r.Uint64()>>24)
	}
	out := make([]byte, 0, n+64)
	out = append(out, "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x3e\x00"...)
	for len(out) < n {
		bits := r.Uint64()
		out = append(out, idioms[bits&0xff][:8+bits>>8&7]...)
		if bits>>16&3 != 0 {
			out = binary.LittleEndian.AppendUint32(out, uint32(bits>>32))
		}
	}
	return out[:n]
}

// packed returns n bytes that do not shrink, such as those of an archive or a
// picture.
func packed(name string, n int) []byte {
	r := source(name)
	out := make([]byte, 0, n+8)
	for len(out) < n {
		out = binary.LittleEndian.AppendUint64(out, r.Uint64())
	}
	return out[:n]
}

// gzipped returns n bytes of text, compressed.
func gzipped(name string, n int) []byte {
	var out bytes.Buffer
	// A bytes.Buffer takes everything, so there is no error to see here.
	w := gzip.NewWriter(&out)
	w.Write(text(name, n))
	w.Close()
	return out.Bytes()
}

// aptList returns n bytes of a Packages file.
func aptList(name string, n int) []byte {
	r := source(name)
	out := make([]byte, 0, n+1024)
	count := uint64(len(words))
	for i := 0; len(out) < n; i++ {
		a, b, c, d := r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()
		pkg := fmt.Sprintf("%s-%s%d", strings.ToLower(words[a%count]), words[b%count], c%9)
		out = fmt.Appendf(out, "Package: lib%s\nVersion: %d.%d.%d-%d+deb12u1\nInstalled-Size: %d\n"+
			"Maintainer: Debian Developers <debian-devel@lists.debian.org>\nArchitecture: amd64\n"+
			"Depends: libc6 (>= 2.%d), lib%s (= %d.%d)\nDescription: %s"+
			"Section: libs\nPriority: optional\nFilename: pool/main/%c/%s/lib%s_%d_amd64.deb\n"+
			"Size: %d\nMD5sum: %016x%016x\nSHA256: %016x%016x%016x%016x\n\n",
			pkg, a>>60, b>>58, c>>57, d>>61, a>>50, b%37, words[d%count], c>>60, d>>59,
			text(fmt.Sprint(name, i), 48), pkg[0], pkg, pkg, a>>52, a>>44, a, b, a, b, c, d)
	}
	return out[:n]
}
