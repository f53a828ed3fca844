package guest

import (
	"bytes"
	"reflect"
	"strconv"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill sets all fields of a value to something other than zero.
func fill(v reflect.Value, n *int64) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.String:
		v.SetString("\xff" + strconv.FormatInt(*n, 10))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(*n << 40)
	default:
		panic("no value for a " + v.Kind().String())
	}
}

// TestMessages fails if a field is not encoded.
func TestMessages(t *testing.T) {
	for _, pair := range [][2]wire.Message{
		{new(Request), new(Request)}, {new(Reply), new(Reply)}, {new(Changes), new(Changes)},
	} {
		var n int64
		fill(reflect.ValueOf(pair[0]).Elem(), &n)
		var b bytes.Buffer
		must(t, wire.Send(&b, pair[0]))
		must(t, wire.Receive(&b, pair[1]))
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("got %+v, want %+v", pair[1], pair[0])
		}
	}
}

func TestChanges(t *testing.T) {
	for _, n := range []int{0, 1, maxBatch, 2*maxBatch + 1} {
		list := make([]Change, n)
		for i := range list {
			list[i].Path = strconv.Itoa(i)
		}
		var b bytes.Buffer
		must(t, SendChanges(&b, list))
		got, err := ReceiveChanges(&b)
		must(t, err)
		if len(got) != n || b.Len() > 0 || n > 0 && got[n-1].Path != list[n-1].Path {
			t.Errorf("%d of %d changes, %d bytes left", len(got), n, b.Len())
		}
	}
}
