import { Application } from "@hotwired/stimulus";
import FilterController from "./controllers/filter_controller.js";

Application.start().register("filter", FilterController);
