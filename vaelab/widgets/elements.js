function make(tag, properties, attributes = {}) {
  return setAttributes(Object.assign(document.createElement(tag), properties), attributes);
}

function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
