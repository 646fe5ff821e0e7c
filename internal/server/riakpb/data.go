package riakpb

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb/kv"
)

// This file converts the operations and the values of data types. A server reads
// operations and makes values; our own client does the reverse.

// OpError says what is wrong with the message of an operation.
type OpError struct{ Text string }

func (e *OpError) Error() string { return e.Text }

// kindsOfValues are the kinds of objects by their number in an answer, and
// kindsOfFields those of a map's fields.
var (
	kindsOfValues = map[DtFetchResp_DataType]kv.Kind{
		DtFetchResp_COUNTER: kv.Counter, DtFetchResp_SET: kv.Set, DtFetchResp_MAP: kv.Map, DtFetchResp_HLL: kv.HLL, DtFetchResp_GSET: kv.GSet,
	}
	kindsOfFields = map[MapField_MapFieldType]kv.Kind{
		MapField_COUNTER: kv.Counter, MapField_SET: kv.Set, MapField_REGISTER: kv.Register, MapField_FLAG: kv.Flag, MapField_MAP: kv.Map,
	}
	numbersOfValues = inverse(kindsOfValues)
	numbersOfFields = inverse(kindsOfFields)
)

func inverse[N comparable](kinds map[N]kv.Kind) map[kv.Kind]N {
	numbers := map[kv.Kind]N{}
	for n, k := range kinds {
		numbers[k] = n
	}
	return numbers
}

// KVKind is the kind of the answer's object; 0: none.
func (r *DtFetchResp) KVKind() kv.Kind { return kindsOfValues[r.GetType()] }

// DataTypeOf is the number of a kind of objects.
func DataTypeOf(k kv.Kind) *DtFetchResp_DataType { return numbersOfValues[k].Enum() }

// KVField is the field that is named. A number that is of no type is of none here.
func (f *MapField) KVField() kv.Field {
	return kv.Field{Name: string(f.GetName()), Kind: kindsOfFields[f.GetType()]}
}

// fieldOf is the name of a field.
func fieldOf(f kv.Field) *MapField {
	return &MapField{Name: []byte(f.Name), Type: numbersOfFields[f.Kind].Enum()}
}

// KVOp is the operation; nil: there is none. The error is an *OpError.
func (o *DtOp) KVOp() (kv.Op, error) {
	var all []kv.Op
	if o.CounterOp != nil {
		all = append(all, o.CounterOp.kvOp())
	}
	if o.SetOp != nil {
		all = append(all, o.SetOp.kvOp())
	}
	if o.MapOp != nil {
		op, err := o.MapOp.kvOp()
		if err != nil {
			return nil, err
		}
		all = append(all, op)
	}
	if o.HllOp != nil {
		all = append(all, kv.HLLOp(o.HllOp.Adds))
	}
	if o.GsetOp != nil {
		all = append(all, kv.GSetOp(o.GsetOp.Adds))
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0], nil
	}
	return nil, &OpError{"there are operations of several types"}
}

func (o *CounterOp) kvOp() kv.Op {
	if o.Increment == nil {
		return kv.CounterOp(1)
	}
	return kv.CounterOp(*o.Increment)
}

func (o *SetOp) kvOp() kv.Op { return kv.SetOp{Adds: o.Adds, Removes: o.Removes} }

func (o *MapOp) kvOp() (kv.Op, error) {
	var op kv.MapOp
	for _, f := range o.Removes {
		op.Removes = append(op.Removes, f.KVField())
	}
	for _, u := range o.Updates {
		under, err := u.kvOp()
		if err != nil {
			return nil, err
		}
		op.Updates = append(op.Updates, kv.FieldOp{Field: u.Field.KVField(), Op: under})
	}
	return op, nil
}

// kvOp is the operation on the field. Whether it is for the field's type is for the
// store to say.
func (u *MapUpdate) kvOp() (kv.Op, error) {
	var all []kv.Op
	if u.CounterOp != nil {
		all = append(all, u.CounterOp.kvOp())
	}
	if u.SetOp != nil {
		all = append(all, u.SetOp.kvOp())
	}
	if u.RegisterOp != nil {
		all = append(all, kv.RegisterOp(u.RegisterOp))
	}
	if u.FlagOp != nil {
		all = append(all, kv.FlagOp(*u.FlagOp == MapUpdate_ENABLE))
	}
	if u.MapOp != nil {
		op, err := u.MapOp.kvOp()
		if err != nil {
			return nil, err
		}
		all = append(all, op)
	}
	switch {
	case len(all) != 1:
		return nil, &OpError{fmt.Sprintf("the field %v is updated by %d operations, and takes one", u.Field.KVField(), len(all))}
	case u.FlagOp != nil && *u.FlagOp != MapUpdate_ENABLE && *u.FlagOp != MapUpdate_DISABLE:
		return nil, &OpError{fmt.Sprintf("the field %v is neither enabled nor disabled", u.Field.KVField())}
	}
	return all[0], nil
}

// OpOf is the message of an operation. One that no object can take makes none.
func OpOf(op kv.Op) *DtOp {
	switch o := op.(type) {
	case kv.CounterOp:
		return &DtOp{CounterOp: &CounterOp{Increment: proto.Int64(int64(o))}}
	case kv.SetOp:
		return &DtOp{SetOp: &SetOp{Adds: o.Adds, Removes: o.Removes}}
	case kv.GSetOp:
		return &DtOp{GsetOp: &GSetOp{Adds: o}}
	case kv.HLLOp:
		return &DtOp{HllOp: &HllOp{Adds: o}}
	case kv.MapOp:
		return &DtOp{MapOp: mapOpOf(o)}
	}
	return &DtOp{}
}

func mapOpOf(o kv.MapOp) *MapOp {
	m := &MapOp{}
	for _, f := range o.Removes {
		m.Removes = append(m.Removes, fieldOf(f))
	}
	for _, f := range o.Updates {
		u := &MapUpdate{Field: fieldOf(f.Field)}
		switch o := f.Op.(type) {
		case kv.CounterOp:
			u.CounterOp = &CounterOp{Increment: proto.Int64(int64(o))}
		case kv.SetOp:
			u.SetOp = &SetOp{Adds: o.Adds, Removes: o.Removes}
		case kv.RegisterOp:
			u.RegisterOp = append([]byte{}, o...)
		case kv.FlagOp:
			u.FlagOp = MapUpdate_DISABLE.Enum()
			if o {
				u.FlagOp = MapUpdate_ENABLE.Enum()
			}
		case kv.MapOp:
			u.MapOp = mapOpOf(o)
		}
		m.Updates = append(m.Updates, u)
	}
	return m
}

// ValueOf is the message of an object's value.
func ValueOf(v kv.DataValue) *DtValue {
	switch v.Kind {
	case kv.Counter:
		return &DtValue{CounterValue: proto.Int64(v.Counter)}
	case kv.Set:
		return &DtValue{SetValue: v.Set}
	case kv.Map:
		return &DtValue{MapValue: entriesOf(v.Map)}
	case kv.HLL:
		return &DtValue{HllValue: proto.Uint64(v.HLL)}
	case kv.GSet:
		return &DtValue{GsetValue: v.Set}
	}
	return &DtValue{}
}

func entriesOf(fields []kv.FieldValue) []*MapEntry {
	var all []*MapEntry
	for _, f := range fields {
		e := &MapEntry{Field: fieldOf(f.Field)}
		switch v := f.Value; v.Kind {
		case kv.Counter:
			e.CounterValue = proto.Int64(v.Counter)
		case kv.Set:
			e.SetValue = v.Set
		case kv.Register:
			e.RegisterValue = append([]byte{}, v.Register...)
		case kv.Flag:
			e.FlagValue = proto.Bool(v.Flag)
		case kv.Map:
			e.MapValue = entriesOf(v.Map)
		}
		all = append(all, e)
	}
	return all
}

// KVValue is the value of an object of this kind.
func (v *DtValue) KVValue(k kv.Kind) kv.DataValue {
	out := kv.DataValue{Kind: k}
	switch k {
	case kv.Counter:
		out.Counter = v.GetCounterValue()
	case kv.Set:
		out.Set = v.GetSetValue()
	case kv.Map:
		out.Map = kvFields(v.GetMapValue())
	case kv.HLL:
		out.HLL = v.GetHllValue()
	case kv.GSet:
		out.Set = v.GetGsetValue()
	}
	return out
}

func kvFields(entries []*MapEntry) []kv.FieldValue {
	var all []kv.FieldValue
	for _, e := range entries {
		f := kv.FieldValue{Field: e.Field.KVField()}
		f.Value.Kind = f.Field.Kind
		switch f.Field.Kind {
		case kv.Counter:
			f.Value.Counter = e.GetCounterValue()
		case kv.Set:
			f.Value.Set = e.GetSetValue()
		case kv.Register:
			f.Value.Register = e.GetRegisterValue()
		case kv.Flag:
			f.Value.Flag = e.GetFlagValue()
		case kv.Map:
			f.Value.Map = kvFields(e.GetMapValue())
		}
		all = append(all, f)
	}
	return all
}

// Value is what the answer to an update says of the value.
func (r *DtUpdateResp) Value() *DtValue {
	return &DtValue{CounterValue: r.CounterValue, SetValue: r.SetValue, MapValue: r.MapValue, HllValue: r.HllValue, GsetValue: r.GsetValue}
}

// SetValues has the answer to an update tell the value.
func (r *DtUpdateResp) SetValues(v *DtValue) {
	r.CounterValue, r.SetValue, r.MapValue, r.HllValue, r.GsetValue = v.CounterValue, v.SetValue, v.MapValue, v.HllValue, v.GsetValue
}
