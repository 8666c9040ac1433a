package flatten_test

import (
	"bytes"
	"testing"

	"slim/internal/tartest"
)

// FuzzLayer reads arbitrary bytes as a layer above a small base. Whatever is
// accepted must come out the same when it is squashed again, whole and above the
// base; nothing may panic.
func FuzzLayer(f *testing.F) {
	for _, row := range replayRows {
		if row.err == "" {
			for _, b := range tartest.Tars(row.layers) {
				f.Add(b)
			}
		}
	}
	f.Add(tartest.Tars("p!p c!c1,2 b!b3,4 .wh..wh.plnk/1 x⇒.wh..wh.plnk/1")[0])
	f.Add([]byte("\x1f\x8b\x08"))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	base := tartest.Tars("a=A b⇒a d/(0700) d/x l→d")[0]
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, _, err := squash(t, [][]byte{base, b}, 0)
		if err != nil {
			return
		}
		again, _, err := squash(t, [][]byte{whole}, 0)
		if err != nil || !bytes.Equal(whole, again) {
			t.Fatalf("squashing the result again: %v", err)
		}
		upper, _, err := squash(t, [][]byte{base, b}, 1)
		if err != nil {
			t.Fatalf("squashing above the base: %v", err)
		}
		applied, _, err := squash(t, [][]byte{base, upper}, 0)
		if err != nil || !bytes.Equal(whole, applied) {
			t.Fatalf("base and layer are not the whole: %v", err)
		}
	})
}
