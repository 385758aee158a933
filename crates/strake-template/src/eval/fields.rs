//! `.a.b.c`: keys of maps and methods of objects.

use crate::error::Fault;
use crate::eval::{Evaluator, Result};
use crate::limits::NODE;
use crate::object::Object;
use crate::parse::ast::Operand;
use crate::sprig::dates;
use crate::value::Value;

impl Evaluator<'_> {
    /// Follows the fields of an operand; the last one gets the arguments.
    pub(super) fn fields(&self, operand: &Operand, receiver: Value, arguments: &[Value]) -> Result<Value> {
        let mut value = receiver;
        let mut present = false;
        for (index, name) in operand.fields.iter().enumerate() {
            self.charge(operand.at, NODE)?;
            let is_last = index + 1 == operand.fields.len();
            let arguments = if is_last { arguments } else { &[] };
            if present && matches!(value, Value::Null) {
                return self.fail(operand.at, format!("nil pointer evaluating interface {{}}.{name}"));
            }
            present = matches!(&value, Value::Map(map) if map.contains(name));
            value = self.at(operand.at, self.field(&value, name, arguments))?;
        }
        Ok(value)
    }

    fn field(&self, value: &Value, name: &str, arguments: &[Value]) -> std::result::Result<Value, Fault> {
        match value {
            Value::Null => Ok(Value::Null),
            Value::Map(_) if !arguments.is_empty() => {
                Err(Fault::new(format!("{name} is not a method but has arguments")))
            }
            Value::Map(map) => Ok(map.get(name).unwrap_or_default()),
            Value::Object(object) => self.method(object, name, arguments),
            Value::Time(time) => dates::method(time, name, arguments, self.world.meter),
            other => Err(Fault::new(format!("can't evaluate field {name} in type {}", other.type_name()))),
        }
    }

    fn method(&self, object: &Object, name: &str, arguments: &[Value]) -> std::result::Result<Value, Fault> {
        let Some(reply) = object.call(name, arguments) else {
            let fault = Fault::new(format!("can't evaluate field {name} in type {}", object.type_name()));
            let names: Vec<&str> = object.names().collect();
            return Err(fault.hint(format!("it has {}", names.join(", "))));
        };
        let value = reply.map_err(|message| Fault::new(format!("{name}: {message}")))?;
        if let Value::String(text) = &value {
            self.world.meter.text(text.len())?;
        }
        Ok(value)
    }
}
