import { kebabCase } from "lodash-es";

document.title = kebabCase("Built By Two Branches");
